"""Undistorted images show a known scene where the returned intrinsics put it, up to the border."""

import cv2
import numpy as np
import pytest

from openrayzer.data.pixels.lens_distortion import Lens, LensError, check_lens, undistort

SIZE = (96, 128)
CENTRED, ASIDE = (90.0, 90.0, 64.0, 48.0), (90.0, 95.0, 60.0, 52.0)
LENSES = {
    "barrel": Lens(CENTRED, SIZE, "opencv", (-0.2,)),
    "pincushion": Lens(CENTRED, SIZE, "opencv", (0.15, 0.02)),
    "tangential": Lens(ASIDE, SIZE, "opencv", (-0.05, 0.01, 0.004, -0.006)),
    "moustache": Lens(ASIDE, SIZE, "opencv", (-0.1, 0.12, 0.0, 0.0, -0.02)),
    "rational": Lens(CENTRED, SIZE, "opencv", (0.2, 0.1, 0.0, 0.0, 0.02, 0.3, 0.1, 0.01)),
    "fisheye": Lens((60.0, 60.0, 64.0, 48.0), SIZE, "fisheye", (0.02, -0.01)),
    "bare fisheye": Lens((60.0, 60.0, 64.0, 48.0), SIZE, "fisheye"),
}


def wallpaper(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth colours of a wall at distance 1; each channel crosses zero at another place, and no colour is black."""
    channels = [np.sin(3 * x + 1) * np.cos(2 * y), np.cos(4 * x * y), np.sin(2 * x - 3 * y)]
    return (128 + 60 * np.stack(channels, -1)).round().astype(np.uint8)


def photograph(lens: Lens) -> np.ndarray:
    """The wall seen through the lens, computed with OpenCV's inverse of the distortion."""
    height, width = lens.size
    rows, columns = np.mgrid[:height, :width] + 0.5
    fx, fy, cx, cy = lens.intrinsics
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    pixels = np.stack([columns, rows], -1).reshape(-1, 1, 2)
    if lens.model == "fisheye":
        coefficients = np.array([*lens.coefficients, *[0.0] * (4 - len(lens.coefficients))])
        rays = cv2.fisheye.undistortPoints(pixels, matrix, coefficients)
    else:
        coefficients = np.array([*lens.coefficients, *[0.0] * (8 - len(lens.coefficients))])
        end = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-10)
        rays = cv2.undistortPoints(pixels, matrix, coefficients, criteria=end)
    return wallpaper(*rays.reshape(height, width, 2).transpose(2, 0, 1))


@pytest.mark.parametrize("name", LENSES)
def test_every_pixel_agrees_with_the_pinhole_camera(name):
    lens = LENSES[name]
    image, (fx, fy, cx, cy) = undistort(photograph(lens), lens)
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width] + 0.5
    seen = wallpaper((columns / width - cx) / fx, (rows / height - cy) / fy)
    difference = np.abs(image.astype(int) - seen)
    assert image.shape == (*SIZE, 3)
    assert difference.max() <= 4  # no black border, no shift: half a pixel would be 3 on average
    assert difference.mean() < 0.6


@pytest.mark.parametrize("name", LENSES)
def test_square_pixels_stay_square_and_the_centre_stays(name):
    lens = LENSES[name]
    _, (fx, fy, cx, cy) = undistort(np.zeros((*SIZE, 3), np.uint8), lens)
    assert fx * 128 / (fy * 96) == pytest.approx(lens.intrinsics[0] / lens.intrinsics[1], rel=1e-5)
    assert (cx * 128, cy * 96) == pytest.approx(lens.intrinsics[2:], rel=1e-5)


def test_a_smaller_copy_gives_the_same_camera_and_picture():
    lens = LENSES["tangential"]
    large = Lens(tuple(8 * value for value in lens.intrinsics), (768, 1024), "opencv", lens.coefficients)
    ours, intrinsics = undistort(photograph(lens), lens)
    theirs, same = undistort(photograph(lens), large)
    np.testing.assert_allclose(same, intrinsics, rtol=2e-3)  # the outermost pixel centres lie closer to the border
    assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_without_distortion_nothing_is_touched():
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    for coefficients in ((), (0.0, 0.0)):
        same, intrinsics = undistort(image, Lens(ASIDE, SIZE, "opencv", coefficients))
        assert same is image
        np.testing.assert_allclose(intrinsics, [90 / 128, 95 / 96, 60 / 128, 52 / 96], rtol=1e-6)


@pytest.mark.parametrize(
    ("lens", "fault"),
    [
        (Lens(CENTRED, SIZE, "opencv", (-40.0,)), "leaves no image without empty borders"),
        (Lens((90.0, 90.0, -20.0, 48.0), SIZE, "opencv", (0.1,)), "leaves no image without empty borders"),
        (Lens(CENTRED, (96, 160), "opencv"), "has 128 x 96 pixels, but its camera is calibrated for 160 x 96"),
        (Lens(CENTRED, SIZE, "opencv", (float("nan"),)), "leaves no image without empty borders"),
    ],
)
def test_an_impossible_lens_is_refused(lens, fault):
    with pytest.raises(LensError, match=fault):
        undistort(np.zeros((*SIZE, 3), np.uint8), lens)


COLMAP = {  # COLMAP's model and parameters, and ours
    "OPENCV": ((90, 95, 60, 52, -0.05, 0.01, 0.004, -0.006), LENSES["tangential"]),
    "FULL_OPENCV": ((90, 90, 64, 48, 0.2, 0.1, 0, 0, 0.02, 0.3, 0.1, 0.01), LENSES["rational"]),
    "OPENCV_FISHEYE": ((60, 60, 64, 48, 0.02, -0.01, 0, 0), LENSES["fisheye"]),
}


@pytest.mark.parametrize("model", COLMAP)
def test_formulas_are_those_of_colmap(model):
    pytest.importorskip("pycolmap")
    parameters, ours = COLMAP[model]
    theirs = Lens(ours.intrinsics, SIZE, model, tuple(map(float, parameters)))
    image = photograph(ours)
    for mine, other in zip(undistort(image, ours), undistort(image, theirs), strict=True):
        np.testing.assert_allclose(mine, other, atol=1.01 if mine.dtype == np.uint8 else 1e-5)


def test_a_model_that_colmap_does_not_know_either_is_refused():
    pytest.importorskip("pycolmap")
    with pytest.raises(LensError, match="COLMAP has no camera model 'WATERDROP'"):
        check_lens(Lens(CENTRED, SIZE, "WATERDROP", (1.0,)))
    with pytest.raises(LensError, match="2 parameters are wrong for COLMAP's camera model FOV"):
        check_lens(Lens(CENTRED, SIZE, "FOV", (1.0, 2.0)))
