"""HEIC, AVIF, TIFF and BMP files become upright 8-bit RGB, and transparent pixels show a background on request."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openrayzer.data.pixels import decoding, pillow_decoding
from openrayzer.data.pixels.decoding import ImageError, decode_image, image_size
from openrayzer.data.sources.images import Images
from openrayzer.interfaces import InputError

EXACT = {"BMP": ".bmp", "TIFF": ".tif"}
TURN_RIGHT = 6
"""EXIF orientation of an image that has to be turned right."""


def smooth() -> np.ndarray:
    """(24, 32, 3), dark on the left and bright on the right."""
    ramp = np.linspace(20, 230, 32).astype(np.uint8)
    return np.tile(ramp[None, :, None], (24, 1, 3))


def encoded(image: Image.Image, kind: str, **settings) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif kind == "AVIF":
        assert "AVIF" in Image.registered_extensions().values() or Image.init()
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def turned(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = TURN_RIGHT
    return encoded(Image.fromarray(smooth()), kind, exif=exif.tobytes())


@pytest.mark.parametrize("kind", EXACT)
def test_files_without_loss_are_exact(kind):
    data = encoded(Image.fromarray(smooth()), kind)
    np.testing.assert_array_equal(decode_image(data), smooth())
    assert image_size(data) == (24, 32)


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_files_with_loss_are_close(kind):
    data = encoded(Image.fromarray(smooth()), kind, quality=95)
    assert np.abs(decode_image(data).astype(int) - smooth()).max() < 12
    assert image_size(data) == (24, 32)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "HEIF"])
def test_images_are_turned_by_their_orientation(kind):
    image = decode_image(turned(kind), upright=True)
    assert image.shape == (32, 24, 3)
    assert image[2].mean() < 60  # left went up
    assert image[-3].mean() > 190


def test_sixteen_bits_of_a_tiff_keep_the_upper_eight():
    grey = smooth()[..., 0].astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(grey), "TIFF")), smooth())


def test_a_tiff_of_floating_point_numbers_is_refused():
    with pytest.raises(ImageError, match="its pixels have 32 bits"):
        decode_image(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


def test_cmyk_becomes_rgb():
    data = encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode_image(data).astype(int) - smooth()).max() < 12


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "AVIF", "HEIF"])
def test_a_cut_file_is_refused(kind):
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), kind)
    with pytest.raises(ImageError, match="it cannot be decoded"):
        decode_image(data[: len(data) // 2])


def test_too_many_pixels_are_refused_by_the_header(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="its header says 32 x 24 pixels, more than the 100 allowed"):
        decode_image(encoded(Image.fromarray(smooth()), "TIFF"))


def with_alpha(kind: str) -> bytes:
    alpha = Image.fromarray(np.tile(np.repeat([0, 51, 255], [10, 10, 12]).astype(np.uint8), (24, 1)))
    image = Image.fromarray(np.full((24, 32, 3), 100, np.uint8))
    image.putalpha(alpha)
    return encoded(image.convert("LA") if kind == "grey" else image, "PNG" if kind == "grey" else kind, lossless=True)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "grey"])
@pytest.mark.parametrize(("background", "seen"), [(255, [255, 224, 100]), (0, [0, 20, 100]), (None, [100, 100, 100])])
def test_a_background_shows_behind_transparent_pixels(kind, background, seen):
    if kind == "WEBP" and background is None:
        seen = [0, 100, 100]  # encoders of WebP change the colours of invisible pixels
    row = decode_image(with_alpha(kind), background=background)[0, :, 1]
    assert [int(row[place]) for place in (5, 15, 25)] == pytest.approx(seen, abs=1 if seen[0] else 100)


def test_a_background_changes_no_opaque_image():
    data = encoded(Image.fromarray(smooth()), "PNG")
    np.testing.assert_array_equal(decode_image(data, background=255), smooth())


def test_heic_without_its_package_is_a_missing_frame_that_names_the_extra(tmp_path, monkeypatch):
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    monkeypatch.setattr(pillow_decoding, "HEIC_PACKAGE", "no_such_package")
    with pytest.raises(ImageError, match=r"HEIC images need pillow-heif: pip install 'openrayzer\[heic\]'"):
        decode_image(data)
    (tmp_path / "1.HEIC").write_bytes(data)
    with pytest.raises(InputError, match=r"frame 0: 1\.HEIC: HEIC images need pillow-heif"):
        opened(tmp_path)


def opened(root: Path) -> Images:
    dataset = Images(root=root)
    dataset.open()
    return dataset


def test_published_photos_are_all_read_upright(shared_data):
    photos = shared_data / "dialects" / "photos"
    if not photos.is_dir():
        pytest.skip(f"needs {photos}")
    pytest.importorskip("pillow_heif")
    dataset = opened(photos)
    assert (dataset.problems, dataset.num_frames(0)) == ((), 6)  # neither macOS's companion file nor Thumbs.db
    pictures = dataset.read(0, range(6)).images
    assert {picture.shape for picture in pictures} == {(90, 160, 3)}
    means = np.array([picture.reshape(-1, 3).mean(0) for picture in pictures])
    np.testing.assert_allclose(means, np.tile(means.mean(0), (6, 1)), atol=3)  # neighbouring views of one desk
