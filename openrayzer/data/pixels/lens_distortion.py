"""Removal of lens distortion: images of a pinhole camera and the intrinsics of that camera."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from openrayzer.interfaces import InputError

WIDEST, NARROWEST = 0.5, 4.0
"""Smallest and largest focal length of the pinhole camera, relative to the focal length of the lens."""

ROUNDING = 1.0
"""Pixels by which the proportions of a resized image may differ from the original, because sides are rounded."""

_BORDER_POINTS = 200  # points on the border of the image in the search for the focal length
_LADDER = np.linspace(0, 1, 33)[1:]
_BISECTIONS = 24
_SLACK = 1e-3  # pixels that a map may extend beyond the outermost pixel centres


class LensError(ValueError):
    """An image that does not fit its camera, or a lens without a valid pinhole image."""


@dataclass(frozen=True)
class Lens:
    """A calibrated camera.

    Attributes:
        intrinsics: fx, fy, cx, cy in pixels of ``size``; pixel centres lie at +0.5.
        size: height and width of the calibrated images in pixels; (0, 0) for the size of the stored image.
        model: ``opencv`` (k1, k2, p1, p2, k3, k4, k5, k6), ``fisheye`` (k1, k2, k3, k4), or the name of another COLMAP
            model; the coefficients of such a model are all its parameters.
        coefficients: distortion coefficients in the order above; missing ones are 0.
    """

    intrinsics: tuple[float, float, float, float]
    size: tuple[int, int] = (0, 0)
    model: str = "opencv"
    coefficients: tuple[float, ...] = ()

    @property
    def distorts(self) -> bool:
        """False for a pinhole camera."""
        return self.model != "opencv" or any(self.coefficients)


def undistort(image: np.ndarray, lens: Lens, *, stored: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The image that a pinhole camera at the same position would take, without empty borders, and its intrinsics.

    The new image has the size of the old one. Its focal length is the shortest one, between half and four times that
    of the lens, at which every pixel lies inside the stored image. Square pixels stay square, and the principal point
    does not move. The maps of the four latest lenses are cached.

    Args:
        image: (h, w, 3) uint8. Without distortion it may have been reduced, and it is returned unchanged.
        lens: the camera of the image.
        stored: height and width of the stored image in pixels; None for the size of ``image``.

    Returns:
        The image, and fx, fy, cx, cy divided by its width, height, width, height.

    Raises:
        LensError: the proportions of image and lens differ, or there is no such pinhole image.
    """
    height, width = stored or image.shape[:2]
    stated_height, stated_width = lens.size if any(lens.size) else (height, width)
    if not _same_proportions((height, width), (stated_height, stated_width)):
        calibrated = f"{stated_width} x {stated_height}"
        raise LensError(f"its image has {width} x {height} pixels, but its camera is calibrated for {calibrated}")
    scale = np.array([stated_width, stated_height, stated_width, stated_height], np.float64)
    intrinsics = np.array(lens.intrinsics) / scale
    if not lens.distorts:
        return image, intrinsics.astype(np.float32)
    columns, rows, zoom = _pinhole_map(replace(lens, size=(stated_height, stated_width)), (height, width))
    image = cv2.remap(image, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return image, (intrinsics * [zoom, zoom, 1, 1]).astype(np.float32)


def check_lens(lens: Lens) -> None:
    """Check a lens without an image.

    Raises:
        InputError: the model needs pycolmap, and pycolmap is not installed.
        LensError: the model is unknown, or the number of coefficients is wrong.
    """
    if lens.distorts:
        _projection(lens)


def _same_proportions(size: tuple[int, int], stated: tuple[int, int]) -> bool:
    """Whether one factor scales both stated sides to the true sides, up to ``ROUNDING``."""
    lowest = max((true - ROUNDING) / side for true, side in zip(size, stated, strict=True))
    highest = min((true + ROUNDING) / side for true, side in zip(size, stated, strict=True))
    return lowest <= highest


@lru_cache(maxsize=4)
def _pinhole_map(lens: Lens, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """The maps of ``cv2.remap``: source column and row of each pixel of the pinhole image.

    The third value is the focal length of the pinhole camera divided by that of the lens.
    """
    project = _projection(lens)
    border = _rays(lens, _border(lens.size))
    zoom = _shortest(lambda zoom: _inside(project, border / zoom, lens))
    height, width = size
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([columns * lens.size[1] / width, rows * lens.size[0] / height], -1)
    source = project(_rays(lens, pixels.reshape(-1, 2)) / zoom).reshape(height, width, 2)
    source = source * [width / lens.size[1], height / lens.size[0]] - 0.5  # OpenCV's pixel centres lie at +0
    if not np.isfinite(source).all() or (source < -0.5).any() or (source > [width - 0.5, height - 0.5]).any():
        raise LensError("its lens distortion folds the image")
    source = source.astype(np.float32)
    return source[..., 0].copy(), source[..., 1].copy(), zoom


def _border(size: tuple[int, int]) -> np.ndarray:
    """Outermost pixel centres (n, 2) of an image, including its corners."""
    height, width = size
    across = np.linspace(0.5, width - 0.5, _BORDER_POINTS // 4)
    down = np.linspace(0.5, height - 0.5, _BORDER_POINTS // 4)
    one = np.ones_like(across)
    sides = [(across, one * 0.5), (across, one * height - 0.5), (one * 0.5, down), (one * width - 0.5, down)]
    return np.concatenate([np.stack(side, -1) for side in sides])


def _rays(lens: Lens, pixels: np.ndarray) -> np.ndarray:
    """x / z and y / z (n, 2) of the rays of a pinhole camera with the intrinsics of ``lens`` at pixels (n, 2)."""
    fx, fy, cx, cy = lens.intrinsics
    return (pixels - [cx, cy]) / [fx, fy]


def _shortest(possible: Callable[[float], bool]) -> float:
    """Smallest possible zoom, by bisection. Above a possible zoom every zoom is possible, since it shows less."""
    if not possible(NARROWEST):
        raise LensError("its lens distortion leaves no image without empty borders")
    if possible(WIDEST):
        return WIDEST
    low, high = np.log(WIDEST), np.log(NARROWEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if possible(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


def _inside(project: Callable[[np.ndarray], np.ndarray], border: np.ndarray, lens: Lens) -> bool:
    """Whether the border lies inside the image and the distortion grows steadily from the centre to the border."""
    steps = (_LADDER[:, None, None] * border).reshape(-1, 2)
    pixels = project(steps).reshape(len(_LADDER), -1, 2)
    distance = np.linalg.norm(pixels - lens.intrinsics[2:], axis=-1)
    with np.errstate(invalid="ignore"):
        rising = (np.diff(distance, axis=0) > 0).all()
        height, width = lens.size
        low, high = 0.5 - _SLACK, np.array([width, height]) - 0.5 + _SLACK
        return bool(rising and (pixels[-1] >= low).all() and (pixels[-1] <= high).all())


def _projection(lens: Lens) -> Callable[[np.ndarray], np.ndarray]:
    """Function from rays (n, 2) to pixels (n, 2)."""
    if lens.model not in _DISTORTIONS:
        return _colmap_projection(lens)
    distort, count = _DISTORTIONS[lens.model]
    coefficients = (*lens.coefficients, *([0.0] * (count - len(lens.coefficients))))
    fx, fy, cx, cy = lens.intrinsics
    return lambda rays: distort(rays, *coefficients) * [fx, fy] + [cx, cy]


def _opencv(
    rays: np.ndarray, k1: float, k2: float, p1: float, p2: float, k3: float, k4: float, k5: float, k6: float
) -> np.ndarray:
    """Source: OpenCV, calib3d, "Detailed Description"."""
    x, y = rays.T
    r2 = x * x + y * y
    with np.errstate(all="ignore"):
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            -1,
        )


def _fisheye(rays: np.ndarray, k1: float, k2: float, k3: float, k4: float) -> np.ndarray:
    """Source: Kannala and Brandt, A Generic Camera Model and Calibration Method, as in OpenCV's fisheye module."""
    radius = np.linalg.norm(rays, axis=-1, keepdims=True)
    angle = np.arctan(radius)
    square = angle * angle
    with np.errstate(all="ignore"):
        distorted = angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
        return rays * np.where(radius > 1e-9, distorted / radius, 1.0)  # the limit at the centre


_DISTORTIONS: dict[str, tuple[Callable[..., np.ndarray], int]] = {"opencv": (_opencv, 8), "fisheye": (_fisheye, 4)}


def _colmap_projection(lens: Lens) -> Callable[[np.ndarray], np.ndarray]:
    try:
        import pycolmap
    except ImportError as error:
        raise InputError(
            f"cameras of COLMAP's model {lens.model} need pycolmap: pip install 'openrayzer[colmap]'"
        ) from error
    height, width = lens.size
    try:
        camera = pycolmap.Camera(model=lens.model, width=width, height=height, params=list(lens.coefficients))
    except (ValueError, TypeError, RuntimeError) as error:
        raise LensError(f"COLMAP has no camera model {lens.model!r}") from error
    if not camera.verify_params():
        raise LensError(f"{len(lens.coefficients)} parameters are wrong for COLMAP's camera model {lens.model}")
    return lambda rays: np.asarray(camera.img_from_cam(np.column_stack([rays, np.ones(len(rays))])), np.float64)
