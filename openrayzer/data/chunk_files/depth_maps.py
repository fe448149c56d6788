"""Depth maps in chunks: 16-bit grey PNG files of depth along the optical axis.

A pixel holds the depth at its centre in thousandths of the scene's unit of length, so in millimetres if the scene is in
metres. 0 stands for an unknown depth. The format suits scenes of 0.1 to 65 units.
"""

import cv2
import numpy as np
from jaxtyping import Float

from openrayzer.data.pixels.decoding import MAX_PIXELS, ImageError, image_size

_STEPS = 1000  # per unit of length


def depth_png(depth: Float[np.ndarray, "h w"]) -> bytes:
    """Encode a depth map.

    Depths that are not finite, not above 0, or above 65.535 units become unknown.
    """
    steps = np.nan_to_num(depth.astype(np.float64) * _STEPS, nan=0.0, posinf=0.0, neginf=0.0).round()
    steps[(steps < 0) | (steps > np.iinfo(np.uint16).max)] = 0
    _, encoded = cv2.imencode(".png", steps.astype(np.uint16))
    return encoded.tobytes()


def read_depth(data: bytes) -> Float[np.ndarray, "h w"]:
    """Decode a depth map to float32 in the scene's unit of length; 0 where the depth is unknown.

    Raises:
        ImageError: the file is truncated, damaged, too large, or not a 16-bit grey image.
    """
    height, width = image_size(data)
    if height * width > MAX_PIXELS:
        raise ImageError(f"its header says {width} x {height} pixels, more than the {MAX_PIXELS} allowed")
    try:
        steps = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"it cannot be decoded: {error}") from error
    if steps is None or steps.shape != (height, width) or steps.dtype != np.uint16:
        raise ImageError("a depth map must be a 16-bit grey PNG file")
    return (steps / _STEPS).astype(np.float32)
