"""Image files to arrays; format, completeness and size are checked before an image is decoded."""

from collections.abc import Iterator

import cv2
import numpy as np

from openrayzer.data.pixels import pillow_decoding
from openrayzer.data.pixels.scaled_decoding import reduction

MAX_PIXELS = 1 << 26
"""Largest number of pixels; larger images are refused before memory is allocated. 64 million pixels take 200 MB."""

_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
"""OpenCV flags of the scale only; the flags IMREAD_REDUCED_COLOR_* would also fix the order blue, green, red."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # of JPEG, for all its coding processes
_START_OF_SCAN = 0xDA
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))  # JPEG markers without a length


class ImageError(ValueError):
    """Bytes that are not a usable image; the message names the fault."""


def decode_image(
    data: bytes,
    *,
    upright: bool = False,
    covering: tuple[int, int] | None = None,
    background: int | None = None,
) -> np.ndarray:
    """Decode a JPEG, PNG, WebP, HEIC, AVIF, TIFF or BMP file to uint8 (h, w, 3), RGB.

    Grey images get three equal channels, and 16 bits become 8.

    Args:
        data: the bytes of the whole file.
        upright: rotate the image by its EXIF orientation. False for images with cameras, which are calibrated for the
            stored image. HEIC and TIFF files are always rotated.
        covering: height and width that ``fit_image`` is going to cut the image to. A JPEG file may then be decoded at
            a half, a quarter or an eighth of its size; see ``reduction``. None for the full size.
        background: grey value, 0 to 255, behind transparent pixels; None ignores transparency.

    Raises:
        ImageError: the file is empty, truncated, damaged, of another format, or larger than ``MAX_PIXELS``.
    """
    height, width = image_size(data)
    if height * width > MAX_PIXELS:
        raise ImageError(f"its header says {width} x {height} pixels, more than the {MAX_PIXELS} allowed")
    if pillow_decoding.kind_of(data) or (background is not None and not data.startswith(_JPEG)):
        return _by_pillow(data, upright, background)
    factor = 1
    if covering is not None and data.startswith(_JPEG):
        factor = reduction((height, width), covering)
        if upright:  # the orientation may swap the sides
            factor = min(factor, reduction((width, height), covering))
    height, width = height // factor, width // factor
    flags = cv2.IMREAD_COLOR_RGB | _REDUCED[factor] | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"it cannot be decoded: {error}") from error
    if image is None or image.shape[:2] not in [(height, width), (width, height)[: 2 * upright]]:
        raise ImageError("it cannot be decoded: the file is damaged")
    return image


def _by_pillow(data: bytes, upright: bool, background: int | None) -> np.ndarray:
    try:
        return pillow_decoding.decoded(pillow_decoding.opened(data), upright=upright, background=background)
    except pillow_decoding.UnreadableError as error:
        raise ImageError(str(error)) from error


def image_size(data: bytes) -> tuple[int, int]:
    """Height and width in the header of a complete image file, see ``decode_image``.

    Raises:
        ImageError: see ``decode_image``.
    """
    if not data:
        raise ImageError("it has no bytes")
    if data.startswith(_JPEG):
        height, width = _jpeg_size(data)
    elif data.startswith(_PNG):
        height, width = _png_size(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        height, width = _webp_size(data)
    elif pillow_decoding.kind_of(data):
        try:
            width, height = pillow_decoding.opened(data).size
        except pillow_decoding.UnreadableError as error:
            raise ImageError(str(error)) from error
    else:
        raise ImageError(
            "it is neither JPEG nor PNG nor WebP, and no HEIC, AVIF, TIFF or BMP file; "
            f"it starts with {data[:8].hex(' ')}"
        )
    if height < 1 or width < 1:
        raise ImageError(f"its header says {width} x {height} pixels")
    return height, width


def stated_size(start: bytes) -> tuple[int, int]:
    """Height and width in the header of an image file, from its first bytes only; (0, 0) if they are not found."""
    if start.startswith(_PNG) and len(start) >= 24:
        return int.from_bytes(start[20:24], "big"), int.from_bytes(start[16:20], "big")
    try:
        if start.startswith(_JPEG):
            for marker, position in _jpeg_segments(start):
                if marker in _FRAME_HEADERS and len(start) >= position + 9:
                    return _frame_size(start, position)
        if start.startswith(b"RIFF") and start[8:12] == b"WEBP" and len(start) >= 30:
            return _webp_stated_size(start)
    except ImageError:
        pass
    return 0, 0


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 24 or b"IEND" not in data[-64:]:
        raise ImageError("the PNG file is cut short")
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Source: RFC 9649."""
    if len(data) < 30 or int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise ImageError("the WebP file is cut short")
    return _webp_stated_size(data)


def _webp_stated_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        sides = int.from_bytes(data[21:25], "little")
        return 1 + (sides >> 14 & 0x3FFF), 1 + (sides & 0x3FFF)
    if kind == b"VP8 ":
        sides = int.from_bytes(data[26:30], "little")
        return sides >> 16 & 0x3FFF, sides & 0x3FFF
    raise ImageError(f"the WebP file starts with an unknown part {kind!r}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size = None
    for marker, position in _jpeg_segments(data):
        if marker == _START_OF_SCAN:  # compressed data follows; it cannot contain the end marker
            if size is None or data.rfind(b"\xff\xd9", position) < 0:
                break
            return size
        if marker in _FRAME_HEADERS:
            size = _frame_size(data, position)
    raise ImageError("the JPEG file is cut short")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and position of each segment up to the compressed data. Source: ITU-T T.81, annex B."""
    position = 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            raise ImageError(f"the JPEG header is damaged at byte {position}")
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _STANDALONE:
            position += 2
        else:
            yield marker, position
            if marker == _START_OF_SCAN:
                return
            position += 2 + (data[position + 2] << 8 | data[position + 3])


def _frame_size(data: bytes, position: int) -> tuple[int, int]:
    height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
    return int.from_bytes(height, "big"), int.from_bytes(width, "big")
