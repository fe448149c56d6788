"""A point of the scene stays on the pixel that shows it when an image is resized and cropped."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from openrayzer.data.pixels.resizing import covering_size, fit_depth, fit_image, fit_intrinsics
from openrayzer.data.sources.chunks import Chunks

SIDE = st.integers(1, 700)
SIZE = st.tuples(SIDE, SIDE)


@given(stored=SIZE, size=SIZE)
def test_resized_image_covers_and_keeps_its_shape(stored, size):
    height, width = covering_size(stored, size)
    assert height >= size[0]
    assert width >= size[1]
    assert height == size[0] or width == size[1]
    scale = max(size[0] / stored[0], size[1] / stored[1])
    assert abs(height - stored[0] * scale) <= 0.5 + 1e-9 or height == size[0]
    assert abs(width - stored[1] * scale) <= 0.5 + 1e-9 or width == size[1]


def test_known_sizes():
    assert covering_size((360, 640), (256, 256)) == (256, 455)
    assert covering_size((256, 455), (256, 256)) == (256, 455)
    assert covering_size((270, 480), (256, 448)) == (256, 455)
    assert covering_size((480, 270), (256, 256)) == (455, 256)


@settings(max_examples=30, deadline=None)
@given(
    stored=st.tuples(st.integers(60, 300), st.integers(60, 300)),
    size=st.tuples(SIDE, SIDE).map(lambda s: (s[0] % 200 + 20, s[1] % 200 + 20)),
)
def test_intrinsics_follow_the_pixels(stored, size):
    """Each pixel of a ramp stores its original position; the ray through it must not change."""
    height, width = stored
    rows, columns = np.mgrid[:height, :width] + 0.5
    ramp = np.stack([columns / width, rows / height, np.zeros(stored)], axis=-1) * 255
    image = fit_image(np.round(ramp).astype(np.uint8), size)
    old = np.array([0.9, 1.3, 0.45, 0.55], np.float32)
    new = fit_intrinsics(old, stored, size)
    shown_x, shown_y = image[0, size[0] // 2].mean(), image[1, :, size[1] // 2].mean()
    assert (0.5 - new[2]) / new[0] == pytest.approx((shown_x - old[2]) / old[0], abs=0.01)
    assert (0.5 - new[3]) / new[1] == pytest.approx((shown_y - old[3]) / old[1], abs=0.01)


@pytest.mark.parametrize(
    ("stored", "size"), [((64, 96), (64, 64)), ((64, 96), (32, 32)), ((90, 60), (40, 40)), ((30, 40), (60, 60))]
)
def test_depth_follows_the_pixels(stored, size):
    """An image whose red is its depth keeps this relation, and depth is never a mean over an edge."""
    ramp = np.tile(np.linspace(40, 200, stored[1]), (stored[0], 1))
    image = np.repeat(np.round(ramp).astype(np.uint8)[..., None], 3, axis=2)
    depth = fit_depth(ramp.astype(np.float32), size)
    assert depth.shape == size
    slope = 160 / (stored[1] - 1)
    assert np.abs(depth - fit_image(image, size)[0] * 255).max() < 0.51 + slope
    edge = np.where(ramp > 120, 5.0, 1.0).astype(np.float32)
    assert set(np.unique(fit_depth(edge, size))) == {1.0, 5.0}


def test_odd_crop_moves_the_principal_point_by_whole_pixels():
    stored, size = (256, 455), (256, 256)  # (455 - 256) // 2 = 99 columns are cut on the left, 100 on the right
    fx, fy, cx, cy = fit_intrinsics(np.array([0.6, 1.0, 0.5, 0.5]), stored, size)
    assert cx * 256 == pytest.approx(0.5 * 455 - 99)
    assert fx * 256 == pytest.approx(0.6 * 455)
    assert (fy, cy) == (1.0, 0.5)


def test_image_that_fits_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (256, 455, 3), dtype=np.uint8)
    result = fit_image(image, (256, 256))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(np.round(result * 255).transpose(1, 2, 0), image[:, 99:355])


def test_shrinking_does_not_alias():
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit_image(stripes, (50, 50)) - 0.5).max() < 0.01


@pytest.mark.parametrize("size", [(8, 8), (64, 96), (300, 20)])
def test_values_stay_in_range(size):
    image = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (40, 60, 3))
    result = fit_image(image, size)
    assert result.shape == (3, *size)
    assert 0 <= result.min() <= result.max() <= 1


def plainly_fitted(image, size):
    """The result of ``fit_image`` computed by OpenCV on whole images, and the largest allowed difference in levels."""
    height, width = covering_size(image.shape[:2], size)
    scales = image.shape[0] / height, image.shape[1] / width
    mild = min(scales) >= 1 and max(scales) <= 2**0.5
    method = cv2.INTER_LINEAR if mild else cv2.INTER_AREA if math.prod(scales) > 1 else cv2.INTER_CUBIC
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=method)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    image = image[top : top + size[0], left : left + size[1]]
    return image.transpose(2, 0, 1).astype(np.float32) / np.float32(255), 1 if mild else 0


def assert_pixels_are_those_of_opencv(image, size):
    found, (wanted, levels) = fit_image(image, size), plainly_fitted(image, size)
    if levels:
        assert np.abs(found - wanted).max() < (levels + 0.1) / 255
        assert (found != wanted).mean() < 0.01
    else:
        np.testing.assert_array_equal(found, wanted)


@settings(max_examples=150, deadline=None)
@given(
    stored=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    seed=st.integers(0, 99),
)
def test_pixels_are_those_of_opencv(stored, size, seed):
    assert_pixels_are_those_of_opencv(np.random.default_rng(seed).integers(0, 256, (*stored, 3), np.uint8), size)


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        ((360, 640), (256, 256)),
        ((360, 640), (256, 448)),
        ((270, 480), (256, 256)),
        ((540, 960), (256, 448)),
        ((1080, 1920), (256, 256)),
        ((640, 360), (256, 256)),
        ((512, 910), (256, 256)),
        ((512, 1024), (256, 256)),
    ],
)
def test_pixels_of_common_sizes_are_those_of_opencv(stored, size):
    assert_pixels_are_those_of_opencv(np.random.default_rng(0).integers(0, 256, (*stored, 3), np.uint8), size)


@settings(max_examples=50, deadline=None)
@given(height=st.integers(20, 120), factor=st.floats(1.01, 2**0.5), aspect=st.floats(1, 2), seed=st.integers(0, 9))
def test_shrinking_mildly_computes_no_more_than_it_needs_and_gives_the_same(height, factor, aspect, seed):
    """Video frames shrunk for a square crop: the crop equals that of the whole shrunk image."""
    stored = round(height * factor), round(height * factor * aspect)
    image = np.random.default_rng(seed).integers(0, 256, (*stored, 3), np.uint8)
    whole = fit_image(image, covering_size(stored, (height, height)))
    left = (whole.shape[2] - height) // 2
    part = fit_image(image, (height, height))
    assert np.abs(part - whole[:, :, left : left + height]).max() < 1.1 / 255


def error_beside_lanczos(image, resized):
    """Mean squared difference between ``fit_image`` and published code, divided by the one of area averages."""
    size = resized[::-1]
    lanczos = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), np.float32)
    ours = 255 * fit_image(image, resized).transpose(1, 2, 0)
    areas = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.square(ours - lanczos).mean() / np.square(areas - lanczos).mean()


@pytest.mark.parametrize("factor", [1.05, 1.1, 1.2])
@pytest.mark.parametrize("seed", range(3))
def test_shrinking_mildly_comes_as_close_to_lanczos_as_areas(factor, seed):
    """The picture has the spectrum of a photograph: amplitudes fall with frequency."""
    stored, resized = (round(128 * factor), round(160 * factor)), (128, 160)
    frequency = np.hypot(np.fft.fftfreq(stored[0])[:, None], np.fft.rfftfreq(stored[1])) + 1 / stored[1]
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((3, *stored))) / frequency
    picture = np.fft.irfft2(noise, s=stored).transpose(1, 2, 0)
    image = np.clip(128 + 50 * picture / picture.std(), 0, 255).astype(np.uint8)
    assert error_beside_lanczos(image, resized) < 1


@pytest.mark.parametrize("longer", [1.055, 1.25, 1.406])
def test_real_frames_shrunk_mildly_are_as_close_to_lanczos_as_by_areas(shared_data, longer):
    """Two frequent cases: 480 x 270 pixels to 455 x 256, and 640 x 360 pixels to 455 x 256."""
    dataset = Chunks(root=shared_data / "re10k_style")
    dataset.open()
    images = [image for scene in range(len(dataset)) for image in dataset.read(scene, [0, 10]).images]
    shorter = [round(min(image.shape[:2]) / longer) for image in images]
    wanted = [covering_size(image.shape[:2], (side, side)) for image, side in zip(images, shorter, strict=True)]
    errors = [error_beside_lanczos(image, size) for image, size in zip(images, wanted, strict=True)]
    assert len(errors) > 10
    assert np.mean(errors) < 1.1
