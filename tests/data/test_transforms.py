"""A point of the scene stays on the pixel that shows it, whatever is resized and cut."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrayzer.data.transforms import covering_size, fit_image, fit_intrinsics

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
    """A ramp stores in each pixel where it was; rays through it must not change."""
    height, width = stored
    rows, columns = np.mgrid[:height, :width] + 0.5
    ramp = np.stack([columns / width, rows / height, np.zeros(stored)], axis=-1) * 255
    image = fit_image(np.round(ramp).astype(np.uint8), size)
    old = np.array([0.9, 1.3, 0.45, 0.55], np.float32)
    new = fit_intrinsics(old, stored, size)
    shown_x, shown_y = image[0, size[0] // 2].mean(), image[1, :, size[1] // 2].mean()
    assert (0.5 - new[2]) / new[0] == pytest.approx((shown_x - old[2]) / old[0], abs=0.01)
    assert (0.5 - new[3]) / new[1] == pytest.approx((shown_y - old[3]) / old[1], abs=0.01)


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
    """What ``fit_image`` gives, computed by OpenCV alone."""
    height, width = covering_size(image.shape[:2], size)
    method = cv2.INTER_AREA if height * width < image.shape[0] * image.shape[1] else cv2.INTER_CUBIC
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=method)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    image = image[top : top + size[0], left : left + size[1]]
    return image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


@settings(max_examples=150, deadline=None)
@given(
    stored=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    seed=st.integers(0, 99),
)
def test_pixels_are_those_of_opencv_to_the_last_bit(stored, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*stored, 3), np.uint8)
    np.testing.assert_array_equal(fit_image(image, size), plainly_fitted(image, size))


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
    image = np.random.default_rng(0).integers(0, 256, (*stored, 3), np.uint8)
    np.testing.assert_array_equal(fit_image(image, size), plainly_fitted(image, size))
