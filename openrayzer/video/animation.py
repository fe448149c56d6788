"""Write animated images, WebP or GIF, which web pages show without a player."""

from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from openrayzer.interfaces import InputError
from openrayzer.machine.writing import check_writable, unwritable, whole_file
from openrayzer.video.mp4 import Mp4Writer, Quality
from openrayzer.video.mp4 import check_output as check_mp4

SUFFIXES = (".webp", ".gif")
WEBP_QUALITY = {"best": 95, "high": 80, "small": 50}
"""Quality of lossy WebP from 0 to 100. A GIF has 256 colours per frame at every quality."""
FASTEST_GIF = 50
"""Frames per second. Browsers slow down a GIF whose frames are shorter than 20 ms."""


class AnimationWriter:
    """Context manager that writes an endless WebP or GIF when its block ends without an error.

    Args:
        path: a .webp or .gif file. A file that is already there is replaced at the end, and kept after an error.
        fps: frames per second, above 0. The duration of a frame is rounded: to 1 ms in WebP, to 10 ms in GIF.
        quality: see ``WEBP_QUALITY``.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: str | Path, *, fps: float, quality: Quality = "high") -> None:
        self.path, self.fps, self.quality = Path(path), fps, quality
        self._frames: list[Image.Image] = []

    def __enter__(self) -> "AnimationWriter":
        return self

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame, RGB, of the size of the first frame."""
        self._frames.append(Image.fromarray(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        if not self._frames:
            raise ValueError(f"{self.path}: an animated image needs at least one frame")
        kind_of_file = self.path.suffix.lower().removeprefix(".")
        options = {"quality": WEBP_QUALITY[self.quality], "method": 6} if kind_of_file == "webp" else {}
        first, *others = self._frames
        try:
            with whole_file(self.path, flush=False) as file:
                first.save(
                    file,
                    kind_of_file,
                    save_all=True,
                    append_images=others,
                    duration=round(1000 / self.fps),
                    loop=0,
                    **options,
                )
        except OSError as failure:
            raise unwritable(self.path, failure) from failure


def open_video(path: str | Path, *, fps: float, quality: Quality) -> Mp4Writer | AnimationWriter:
    """The writer for the suffix of ``path``: .mp4, .webp or .gif."""
    writer: type[Mp4Writer] | type[AnimationWriter] = (
        AnimationWriter if Path(path).suffix.lower() in SUFFIXES else Mp4Writer
    )
    return writer(path, fps=fps, quality=quality)


def check_output(path: str | Path, *, fps: float) -> None:
    """Check that ``open_video`` can write to ``path``.

    Raises:
        InputError: the suffix is none of .mp4, .webp and .gif, a GIF has too many frames per second, PyAV is missing
            for an .mp4 file, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        check_mp4(path)
        return
    if suffix == ".gif" and fps > FASTEST_GIF:
        raise InputError(f"{path}: a GIF has at most {FASTEST_GIF} frames per second, got --fps {fps:g}")
    check_writable(path)
