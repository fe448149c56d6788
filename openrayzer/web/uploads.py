"""Check the files of a visitor before a decoder sees them, and put them into a folder of their own."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openrayzer.data.pixels.decoding import MAX_PIXELS, ImageError, image_size
from openrayzer.data.sources.image_scenes import IMAGE_SUFFIXES
from openrayzer.data.sources.video import VIDEO_SUFFIXES
from openrayzer.web.answers import Refused
from openrayzer.web.limits import LEAST_VIEWS, MOST_PHOTO_BYTES, MOST_PHOTOS, MOST_VIDEO_BYTES

_SYMBOLS = re.compile(r"[^\w.-]+")
_NAMED = 3  # largest number of files that a message names


@dataclass(frozen=True)
class Upload:
    """Checked files.

    Attributes:
        source: folder of the photos, or the video.
        problems: one sentence for each photo that was left out.
    """

    source: Path
    problems: tuple[str, ...] = ()


def take_upload(files: Sequence[Path], folder: Path) -> Upload:
    """Check the files of a visitor and copy the usable ones into ``folder``, under safe names.

    Photos that are no images, or too large, are left out. The decoder sees only the header here, so that a small file
    which claims an enormous size costs nothing.

    Args:
        files: photos, or one video.
        folder: a new folder.

    Raises:
        Refused: there are too few, too many or too large files, or they are of another kind.
    """
    if not files:
        raise Refused("Add photos or a video first.")
    kinds = {suffix: [file for file in files if file.suffix.lower() in suffix] for suffix in _KINDS}
    photos, videos = kinds[IMAGE_SUFFIXES], kinds[VIDEO_SUFFIXES]
    others = [file.name for file in files if file not in photos and file not in videos]
    if others:
        raise Refused(
            f"{_some(others)}: neither a photo ({_endings(IMAGE_SUFFIXES)}) nor a video ({_endings(VIDEO_SUFFIXES)})."
        )
    if videos and len(files) > 1:
        raise Refused("Give either photos or a single video, not both.")
    folder.mkdir(parents=True)
    return _take_video(videos[0], folder) if videos else _take_photos(photos, folder)


_KINDS = (IMAGE_SUFFIXES, VIDEO_SUFFIXES)


def _take_video(video: Path, folder: Path) -> Upload:
    if video.stat().st_size > MOST_VIDEO_BYTES:
        raise Refused(f"{video.name} has more than {MOST_VIDEO_BYTES >> 20} MB; cut or compress the video.")
    place = folder / f"video{video.suffix.lower()}"
    shutil.copyfile(video, place)
    return Upload(place)


def _take_photos(photos: Sequence[Path], folder: Path) -> Upload:
    if len(photos) > MOST_PHOTOS:
        raise Refused(f"{len(photos)} photos are too many; the page takes up to {MOST_PHOTOS}.")
    if len(photos) < LEAST_VIEWS:
        raise Refused("One photo is not enough: add another one of the same place, taken from a step aside.")
    problems = []
    names: set[str] = set()
    for photo in photos:
        fault = photo_fault(photo)
        if fault:
            problems.append(f"{photo.name}: {fault}")
            continue
        name = _safe_name(photo.name, names)
        names.add(name)
        shutil.copyfile(photo, folder / name)
    if len(names) < LEAST_VIEWS:
        raise Refused(f"Fewer than {LEAST_VIEWS} photos can be used. {' '.join(problems[:_NAMED])}")
    return Upload(folder, tuple(problems))


def photo_fault(photo: Path) -> str:
    """The reason why a photo cannot be used, as half a sentence with a full stop; empty if it can."""
    if photo.stat().st_size > MOST_PHOTO_BYTES:
        return f"it has more than {MOST_PHOTO_BYTES >> 20} MB."
    try:
        height, width = image_size(photo.read_bytes())
    except ImageError as error:
        return f"it is not a photo that can be read ({error})."
    if height * width > MAX_PIXELS:
        return f"it has {width} x {height} pixels, more than the {MAX_PIXELS // 1_000_000} million allowed."
    return ""


def _safe_name(name: str, taken: set[str]) -> str:
    """A file name of letters, digits, dots, dashes and underscores that is not in ``taken``."""
    stem, suffix = _SYMBOLS.sub("_", Path(name).stem).lstrip(".")[-80:] or "photo", Path(name).suffix.lower()
    candidate, number = f"{stem}{suffix}", 1
    while candidate in taken:
        number += 1
        candidate = f"{stem}_{number}{suffix}"
    return candidate


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _endings(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffix.removeprefix(".") for suffix in suffixes))
