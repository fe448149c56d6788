"""Encoded images to arrays: what is decoded is known to be an image, whole, and of a sane size."""

import cv2
import numpy as np

MAX_PIXELS = 1 << 26
"""Larger images are refused before anything is allocated; 64 million pixels are 200 MB."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)  # in the range of JPEG's frame headers without being one
_STANDALONE = (0x01, *range(0xD0, 0xD8))  # JPEG markers without a length


class ImageError(ValueError):
    """Bytes that are no usable image; the message says what is wrong with them."""


def decode_image(data: bytes) -> np.ndarray:
    """The image in a JPEG or PNG file, as uint8 (h, w, 3), RGB.

    Grey images get three equal channels, transparency is dropped, 16 bits become 8, a stored rotation is ignored.

    Raises:
        ImageError: empty, neither JPEG nor PNG, cut short, larger than ``MAX_PIXELS``, or damaged.
    """
    height, width = image_size(data)
    if height * width > MAX_PIXELS:
        raise ImageError(f"its header says {width} x {height} pixels, more than the {MAX_PIXELS} allowed")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f"it cannot be decoded: {error}") from error
    if image is None or image.shape != (height, width, 3):
        raise ImageError("it cannot be decoded: the file is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(data: bytes) -> tuple[int, int]:
    """Height and width that the header of a whole JPEG or PNG file states.

    Raises:
        ImageError: see ``decode_image``.
    """
    if not data:
        raise ImageError("it has no bytes")
    if data.startswith(_JPEG):
        height, width = _jpeg_size(data)
    elif data.startswith(_PNG):
        height, width = _png_size(data)
    else:
        raise ImageError(f"it is neither JPEG nor PNG, it starts with {data[:8].hex(' ')}")
    if height < 1 or width < 1:
        raise ImageError(f"its header says {width} x {height} pixels")
    return height, width


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 24 or b"IEND" not in data[-64:]:
        raise ImageError("the PNG file is cut short")
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the markers. Source: ITU-T T.81, annex B."""
    size, position = None, 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            raise ImageError(f"the JPEG header is damaged at byte {position}")
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _STANDALONE:
            position += 2
        elif marker == 0xDA:  # start of scan: compressed data, in which the end marker cannot occur
            if size is None or data.find(b"\xff\xd9", position) < 0:
                raise ImageError("the JPEG file is cut short")
            return size
        else:
            if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER:
                size = (
                    int.from_bytes(data[position + 5 : position + 7], "big"),
                    int.from_bytes(data[position + 7 : position + 9], "big"),
                )
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ImageError("the JPEG file is cut short")
