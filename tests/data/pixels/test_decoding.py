"""Complete images of any kind become 8-bit RGB; all other files are refused before memory is allocated."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from openrayzer.data.pixels.decoding import ImageError, decode_image, image_size

RAMP = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)


def encoded(image: np.ndarray, form: str = ".png") -> bytes:
    return cv2.imencode(form, image)[1].tobytes()


def test_png_is_exact_and_rgb():
    np.testing.assert_array_equal(decode_image(encoded(RAMP[:, :, ::-1])), RAMP)


def test_jpeg_is_close():
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (48, 1, 3))
    assert np.abs(decode_image(encoded(smooth, ".jpg")).astype(int) - smooth).max() < 12


@pytest.mark.parametrize(
    "stored",
    [RAMP[:, :, 0], np.dstack([RAMP, RAMP[:, :, :1]]), RAMP.astype(np.uint16) * 257, RAMP[:, :, 0].astype(np.uint16)],
    ids=["grey", "transparent", "16 bit", "grey 16 bit"],
)
def test_other_kinds_become_rgb(stored):
    image = decode_image(encoded(stored))
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8


def test_sixteen_bits_keep_the_upper_eight():
    np.testing.assert_array_equal(decode_image(encoded(RAMP[:, :, ::-1].astype(np.uint16) * 257)), RAMP)


@pytest.mark.parametrize("form", [".png", ".jpg"])
def test_size_is_read_from_the_header(form):
    assert image_size(encoded(RAMP, form)) == (20, 30)


@pytest.mark.parametrize("form", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_file_is_refused(form, share):
    data = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), form)
    with pytest.raises(ImageError, match="cut short"):
        decode_image(data[: int(len(data) * share)])


def test_progressive_jpeg_is_read():
    data = cv2.imencode(".jpg", RAMP, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_image(data).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "no bytes"), (b"GIF89a..", "neither JPEG nor PNG"), (b"\xff\xd8\xff\xe0" + bytes(40), "damaged|cut short")],
)
def test_other_bytes_are_named(data, message):
    with pytest.raises(ImageError, match=message):
        decode_image(data)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_huge_png_is_refused_by_its_header():
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    with pytest.raises(ImageError, match="60000 x 60000 pixels, more than"):
        decode_image(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))


def test_stored_rotation_is_ignored():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn right
    data = encoded(RAMP, ".jpg")
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    np.testing.assert_array_equal(decode_image(turned), decode_image(data))
