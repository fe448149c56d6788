"""Single entries of a stored (uncompressed) zip file: one read of its directory, then one read per entry."""

import struct
import zipfile
import zlib
from typing import NamedTuple

from openrayzer.interfaces import InputError
from openrayzer.machine.opened_files import OpenFile

_LOCAL = struct.Struct("<4s5H3I2H")
_DIRECTORY = 1 << 20  # last bytes of a remote file that usually include its directory; 70 bytes per entry
_USUAL_PADDING = 256  # bytes of name and alignment in the header of an entry; one read gets header and content


class ZipFormatError(ValueError):
    """A file that is not a stored zip file, or that is damaged."""


class ZipEntry(NamedTuple):
    """One entry: first byte of its header, number of bytes of its content, CRC-32 of its content."""

    header: int
    size: int
    crc: int


def read_directory(file: OpenFile) -> dict[str, ZipEntry]:
    """The entries of an open file by name; every stated size is checked against the size of the file.

    Raises:
        ZipFormatError: the directory is missing or damaged, or an entry is compressed or cut off.
    """
    length = file.size
    file.prefetch([(max(length - _DIRECTORY, 0), _DIRECTORY)])
    try:
        with file.stream() as stream, zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
    except InputError:
        raise
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OverflowError, MemoryError) as error:
        raise ZipFormatError(f"its table of entries cannot be read, was it cut short? {error}") from error
    entries = {}
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise ZipFormatError(f"entry {info.filename!r} is compressed or encrypted; torch.save writes neither")
        if info.header_offset < 0 or info.header_offset + info.file_size > length:
            raise ZipFormatError(f"entry {info.filename!r} lies beyond its end of {length} bytes")
        entries[info.filename] = ZipEntry(info.header_offset, info.file_size, info.CRC)
    return entries


def entry_range(entry: ZipEntry, *, start: int = 0, size: int | None = None) -> tuple[int, int]:
    """First byte and number of bytes that ``read_entry`` reads, with the header of the entry."""
    return entry.header, _LOCAL.size + _USUAL_PADDING + start + (entry.size if size is None else size)


def read_entry(file: OpenFile, entry: ZipEntry, *, start: int = 0, size: int | None = None) -> bytes:
    """Content of an entry: all of it, with its CRC-32 checked, or ``size`` bytes from ``start``.

    Raises:
        ZipFormatError: the file is truncated or the content is damaged.
    """
    size = entry.size if size is None else size
    block = file.read(*entry_range(entry, start=start, size=size))
    if len(block) < _LOCAL.size or block[:4] != b"PK\x03\x04":
        raise ZipFormatError(f"there is no entry at byte {entry.header}")
    name_length, extra_length = _LOCAL.unpack_from(block)[-2:]
    begin = _LOCAL.size + name_length + extra_length + start
    content = block[begin : begin + size]
    if len(content) < size:  # a long name or much padding
        content = file.read(entry.header + begin, size)
    if len(content) < size:
        raise ZipFormatError(f"the entry at byte {entry.header} is cut short")
    if size == entry.size and zlib.crc32(content) != entry.crc:
        raise ZipFormatError(f"the entry at byte {entry.header} does not match its checksum")
    return content


def content_offset(file: OpenFile, header: int, *, start: int, size: int) -> tuple[int, bytes]:
    """First byte of the content of an entry in the file, and up to ``size`` bytes of the content from ``start``.

    Raises:
        ZipFormatError: there is no entry at ``header``.
    """
    block = file.read(header, _LOCAL.size + _USUAL_PADDING + size)
    if len(block) < _LOCAL.size or block[:4] != b"PK\x03\x04":
        raise ZipFormatError(f"there is no entry at byte {header}")
    name_length, extra_length = _LOCAL.unpack_from(block)[-2:]
    begin = _LOCAL.size + name_length + extra_length
    content = block[begin + start : begin + start + size]
    if len(content) < size:
        content = file.read(header + begin + start, size)
    return header + begin, content
