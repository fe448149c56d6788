"""Decoding without OpenCV: HEIC, AVIF, TIFF and BMP images, and transparent images over a background."""

import warnings
from importlib.util import find_spec
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

HEIC_PACKAGE = "pillow_heif"
NO_HEIC = "HEIC images need pillow-heif: pip install 'openrayzer[heic]'"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class UnreadableError(ValueError):
    """Bytes that Pillow cannot decode; the message names the fault."""


def has_heic() -> bool:
    """Whether the package that reads HEIC images is installed."""
    return find_spec(HEIC_PACKAGE) is not None


def kind_of(data: bytes) -> str:
    """HEIC, AVIF, TIFF or BMP by the first bytes of a file; empty for other files.

    Source: ISO/IEC 14496-12, section 4.3 (file type box), and ISO/IEC 23008-12, annex B (brands).
    """
    if data.startswith(_TIFF):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
        return "AVIF" if brands & _AVIF else "HEIC" if brands & _HEIC else ""
    return ""


def opened(data: bytes) -> Image.Image:
    """An image whose pixels are not decoded yet.

    Raises:
        UnreadableError: the file is damaged, or it is HEIC and the package for it is not installed.
    """
    heic = kind_of(data) == "HEIC"
    if heic and not has_heic():
        raise UnreadableError(NO_HEIC)
    try:
        with warnings.catch_warnings():  # the caller limits the number of pixels
            warnings.simplefilter("ignore")
            return _heic(data) if heic else Image.open(BytesIO(data))
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"it cannot be decoded: {error}") from error


def decoded(image: Image.Image, *, upright: bool, background: int | None) -> np.ndarray:
    """The pixels as uint8 (h, w, 3), RGB. HEIC and TIFF images are always upright.

    Args:
        image: the result of ``opened``.
        upright: rotate the image by its EXIF orientation.
        background: grey value, 0 to 255, behind transparent pixels; None ignores transparency.

    Raises:
        UnreadableError: the file is damaged, or its pixels are floating-point numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if upright:
                image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # Pillow would cut these values off at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("F", "I"):
                raise ValueError("its pixels have 32 bits; images of 8 or 16 bits can be read")
            if background is not None and is_transparent(image):
                behind = Image.new("RGBA", image.size, (background, background, background, 255))
                image = Image.alpha_composite(behind, image.convert("RGBA"))
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        raise (
            error if isinstance(error, UnreadableError) else UnreadableError(f"it cannot be decoded: {error}")
        ) from error


def is_transparent(image: Image.Image) -> bool:
    """Whether an image states the transparency of its pixels."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _heic(data: bytes) -> Image.Image:
    from pillow_heif import HeifImageFile

    return HeifImageFile(BytesIO(data))
