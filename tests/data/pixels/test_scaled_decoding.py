"""A JPEG file decoded at a fraction of its size shows the same picture at the same position, or is decoded in full."""

from itertools import islice

import cv2
import numpy as np
import pytest

from openrayzer.data.augmentations.horizontal_flip import HorizontalFlip
from openrayzer.data.augmentations.resize_crop import ResizeCrop
from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk, write_index
from openrayzer.data.loading.clips import read_clip
from openrayzer.data.loading.loader import build_loader
from openrayzer.data.pixels.decoding import decode_image
from openrayzer.data.pixels.lens_distortion import Lens, LensError, undistort
from openrayzer.data.pixels.resizing import covering_size, fit_image
from openrayzer.data.pixels.scaled_decoding import decoding_for, reduction, wanted_size
from openrayzer.data.sampling.view_samplers import Even
from openrayzer.data.sources.chunks import Chunks
from openrayzer.data.sources.image_scenes import ImageScene, ImageScenes
from openrayzer.data.sources.images import Images
from openrayzer.interfaces import InputError, ViewChoice
from openrayzer.settings import CacheSettings, DataSettings, Source

SIZE = (64, 64)
CHOICE = ViewChoice(context=(0, 2), target=(1,))


def smooth(height: int, width: int) -> np.ndarray:
    """Waves of a third of the picture or longer, for any image size."""
    down, across = np.mgrid[:height, :width] * 2 * np.pi / np.array([height, width])[:, None, None]
    waves = [np.sin(3 * across + down), np.cos(3 * down), np.sin(2 * across - 2 * down)]
    return np.stack([127 + 100 * wave for wave in waves], -1).astype(np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def jpeg(image: np.ndarray, *, chroma: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, chroma]
    return cv2.imencode(".jpg", image[:, :, ::-1], options)[1].tobytes()


def fitted(data: bytes, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The image cut to size, decoded in full and reduced."""
    return fit_image(decode_image(data), size), fit_image(decode_image(data, covering=size), size)


def shift(image: np.ndarray, other: np.ndarray) -> float:
    """Shift in pixels between two images (3, h, w): the motion that explains most of their difference."""
    gradient = np.stack([part.ravel() for part in np.gradient((image + other).astype(float) / 2, axis=(1, 2))], 1)
    motion, *_ = np.linalg.lstsq(gradient, (image - other).astype(float).ravel(), rcond=None)
    return float(np.hypot(*motion))


def turned(data: bytes) -> bytes:
    """The file with an EXIF orientation of 90 degrees."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


@pytest.mark.parametrize(
    ("stored", "size", "factor"),
    [
        ((1080, 1920), (256, 256), 2),
        ((540, 960), (256, 256), 1),
        ((360, 640), (256, 256), 1),
        ((2160, 3840), (256, 256), 4),
        ((512, 512), (256, 256), 2),
        ((511, 512), (256, 256), 1),
        ((512, 4096), (256, 256), 2),
        ((1081, 1920), (256, 256), 1),
        ((1082, 1920), (256, 256), 2),
        ((64, 64), (256, 256), 1),
    ],
)
def test_reduction_is_the_largest_that_is_close_enough_and_divides(stored, size, factor):
    assert reduction(stored, size) == factor


def test_reduced_image_is_cut_as_the_whole_one_would_be():
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(2000):
        stored = tuple((generator.integers(8, 120, 2) * generator.choice([1, 2, 4, 8])).tolist())
        size = tuple(generator.integers(8, 100, 2).tolist())
        factor = reduction(stored, size)
        seen.add(factor)
        reduced = stored[0] // factor, stored[1] // factor
        assert covering_size(reduced, size) == covering_size(stored, size)
    assert seen == {1, 2, 4, 8}


@pytest.mark.parametrize("chroma", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])
@pytest.mark.parametrize(
    ("stored", "factor"), [((128, 128), 2), ((278, 300), 2), ((256, 320), 4), ((540, 516), 4), ((1048, 1064), 8)]
)
def test_smooth_picture_is_the_same_at_the_same_place(stored, factor, chroma):
    data = jpeg(smooth(*stored), chroma=chroma)
    assert decode_image(data, covering=SIZE).shape == (stored[0] // factor, stored[1] // factor, 3)
    whole, reduced = fitted(data, SIZE)
    assert np.abs(whole - reduced).mean() < 0.004  # one of 255 levels
    assert abs((whole - reduced).mean()) < 0.001
    assert shift(whole, reduced) < 0.02
    assert shift(whole, np.roll(reduced, 1, axis=2)) > 0.5  # the measure would find this shift


@pytest.mark.parametrize(("stored", "factor"), [((278, 300), 2), ((540, 516), 4)])
def test_noise_keeps_its_mean_and_its_place(stored, factor):
    data = jpeg(noise(*stored), chroma=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    assert decode_image(data, covering=SIZE).shape[0] == stored[0] // factor
    whole, reduced = fitted(data, SIZE)
    error = np.abs(whole - reduced).mean()
    assert 0.001 < error < 0.6 * whole.std()  # the filters differ in frequencies that a reduced image does not have
    assert abs((whole - reduced).mean()) < 0.003
    assert shift(whole, reduced) < 0.05


@pytest.mark.parametrize("stored", [(255, 301), (257, 259), (129, 640)])
def test_odd_sides_are_decoded_whole(stored):
    data = jpeg(noise(*stored))
    np.testing.assert_array_equal(decode_image(data, covering=SIZE), decode_image(data))


@pytest.mark.parametrize("form", [".png", ".webp"])
def test_only_jpeg_is_reduced(form):
    data = cv2.imencode(form, noise(256, 256))[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, covering=SIZE), decode_image(data))


def test_turned_image_still_covers():
    data = turned(jpeg(smooth(256, 512)))
    whole = decode_image(data, upright=True)
    assert whole.shape == (512, 256, 3)
    for size, factor in (((64, 64), 4), ((128, 64), 2), ((64, 128), 2), ((256, 128), 1)):
        reduced = decode_image(data, upright=True, covering=size)
        assert reduced.shape == (512 // factor, 256 // factor, 3)
        assert np.abs(fit_image(whole, size) - fit_image(reduced, size)).mean() < 0.004


def test_wish_ends_where_it_was_made():
    with decoding_for(SIZE):
        assert wanted_size() == SIZE
    assert wanted_size() is None


@pytest.fixture
def chunks(tmp_path) -> Chunks:
    c2w = np.tile(np.eye(4), (3, 1, 1))
    c2w[:, 0, 3] = np.arange(3) * 0.1
    rows = cameras_to_rows(c2w, np.tile([0.6, 0.9, 0.45, 0.55], (3, 1)))
    images = [jpeg(smooth(*size)) for size in ((256, 320), (128, 160), (255, 321))]  # quarter, half, whole
    write_chunk(tmp_path / "train" / "000000.torch", [ChunkScene("a", rows, images, np.arange(3))])
    write_index(tmp_path / "train", {"a": "000000.torch"})
    dataset = Chunks(root=tmp_path)
    dataset.open()
    return dataset


def test_clip_has_the_same_cameras_and_nearly_the_same_images(chunks):
    whole = read_clip(chunks, 0, CHOICE, image_size=SIZE)
    reduced = read_clip(chunks, 0, CHOICE, image_size=SIZE, scaled_decoding=True)
    np.testing.assert_array_equal(whole.c2w, reduced.c2w)
    np.testing.assert_array_equal(whole.intrinsics, reduced.intrinsics)
    apart = np.abs(whole.images - reduced.images).mean((1, 2, 3))
    assert (apart[:2] > 0).all()
    assert apart[2] == 0
    assert (apart < 0.004).all()
    np.testing.assert_array_equal(read_clip(chunks, 0, CHOICE, image_size=SIZE).images, whole.images)


def settings(chunks: Chunks, **others) -> DataSettings:
    return DataSettings(
        train=(Source(dataset=chunks),),
        view_sampler=Even(num_context=2, num_target=1),
        image_size=SIZE,
        **{"workers": 0, **others},
    )


@pytest.mark.parametrize("augmentations", [(), (HorizontalFlip(probability=1.0),)])
def test_loader_reduces_on_request_only(chunks, monkeypatch, augmentations):
    sizes: list[tuple[int, int]] = []

    def noting(data: bytes, **how) -> np.ndarray:
        image = decode_image(data, **how)
        sizes.append(image.shape[:2])
        return image

    monkeypatch.setattr("openrayzer.data.sources.chunks.decode_image", noting)
    for wish, first in ((False, (256, 320)), (True, (64, 80))):
        sizes.clear()
        chosen = settings(chunks, augmentations=augmentations, scaled_decoding=wish)
        next(islice(build_loader(chosen, batch_size_per_rank=1, rank=0, world_size=1, seed=0), 1))
        assert sizes[0] == first


def test_combinations_that_cannot_work_are_refused(chunks, tmp_path):
    with pytest.raises(InputError, match="scaled_decoding cannot be combined with cache"):
        settings(chunks, scaled_decoding=True, cache=CacheSettings(folder=tmp_path / "cache", gigabytes=0.1))
    with pytest.raises(InputError, match="cannot be combined with ResizeCrop"):
        settings(chunks, scaled_decoding=True, augmentations=(HorizontalFlip(), ResizeCrop()))
    assert not (tmp_path / "cache").exists()


def test_folder_of_images_is_reduced(tmp_path):
    (tmp_path / "0.jpg").write_bytes(jpeg(smooth(256, 320)))
    dataset = Images(root=tmp_path)
    dataset.open()
    with decoding_for(SIZE):
        assert dataset.read(0, [0]).images[0].shape == (64, 80, 3)
    assert dataset.read(0, [0]).images[0].shape == (256, 320, 3)


class OneCamera(ImageScenes):
    """A scene of one file and one lens."""

    posed = True

    def __init__(self, scene: ImageScene) -> None:
        super().__init__(root=scene.folder, scenes=None, scan_limit=1, follow_links=True)
        self.scene = scene

    def find(self, problems):
        return [("a", self.scene.folder)]

    def load(self, place):
        return self.scene


@pytest.mark.parametrize("stated", [(0, 0), (256, 320), (512, 640)])
@pytest.mark.parametrize("coefficients", [(), (0.01,)])
def test_intrinsics_are_those_of_the_stored_image_and_distortion_is_removed_at_full_size(
    tmp_path, stated, coefficients
):
    (tmp_path / "0.jpg").write_bytes(jpeg(smooth(256, 320)))
    lens = Lens((200.0, 210.0, 160.0, 128.0), stated, coefficients=coefficients)
    dataset = OneCamera(ImageScene(tmp_path, ("0.jpg",), np.eye(4)[None], (lens,)))
    dataset.scan_limit, dataset.scenes, dataset.root = 0, None, tmp_path
    dataset.open()
    whole = dataset.read(0, [0])
    with decoding_for(SIZE):
        reduced = dataset.read(0, [0])
    np.testing.assert_array_equal(whole.intrinsics, reduced.intrinsics)
    assert reduced.images[0].shape == ((256, 320, 3) if coefficients else (64, 80, 3))


def test_proportions_are_judged_by_the_stored_image():
    with pytest.raises(LensError, match="321 x 256 pixels, but its camera is calibrated for 640 x 480"):
        undistort(smooth(64, 80), Lens((1.0, 1.0, 0.5, 0.5), (480, 640)), stored=(256, 321))
