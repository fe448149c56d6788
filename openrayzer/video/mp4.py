"""Write MP4 files frame by frame, as H.264, which every browser and player shows."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from openrayzer.interfaces import InputError
from openrayzer.machine.writing import check_writable, unwritable, whole_file

Quality = Literal["best", "high", "small"]
RATE_FACTORS = {"best": 10, "high": 18, "small": 28}
"""Constant rate factor of x264 for each quality: 0 is lossless, 18 looks like the original, 51 is the worst."""

ENCODER = "libx264"
_BT709, _STUDIO = 1, 1  # as H.264 numbers them: primaries, transfer, matrix; black at 16 and white at 235


class Mp4Writer:
    """Context manager that writes a video frame by frame; the file appears when the block ends without an error.

    Colours are BT.709, 4:2:0. An odd height or width is made even by repeating the last row or column.

    Args:
        path: an .mp4 file. A file that is already there is replaced at the end, and kept after an error.
        fps: frames per second, above 0.
        quality: see ``RATE_FACTORS``; a better quality makes a larger file.

    Raises:
        InputError: PyAV is not installed or cannot encode H.264, or the file cannot be written.
    """

    def __init__(self, path: str | Path, *, fps: float, quality: Quality = "high") -> None:
        check_output(path)
        self.path, self.quality = Path(path), quality
        self.rate = Fraction(fps).limit_denominator(1001)
        self._open = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "Mp4Writer":
        try:
            with ExitStack() as opened:
                file = opened.enter_context(whole_file(self.path, flush=False))
                self._container = _av().open(str(file), "w", format="mp4", options={"movflags": "+faststart"})
                opened.push(self._close)
                self._open = opened.pop_all()
        except OSError as error:
            raise unwritable(self.path, error) from error
        return self

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame, RGB, of the size of the first frame.

        Raises:
            InputError: the disk is full.
        """
        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            if self._stream is None:
                self._stream = self._add_stream(frame.shape[0], frame.shape[1])
            self._container.mux(self._stream.encode(_picture(frame)))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._open.__exit__(kind, error, traceback)
        except OSError as failure:
            if error is None:  # else the first error is the one to report
                raise unwritable(self.path, failure) from failure

    def _close(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Finish the container; called before the file gets its name."""
        try:
            if kind is None:
                if self._stream is None:
                    raise ValueError(f"{self.path}: a video needs at least one frame")
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def _add_stream(self, height: int, width: int) -> Any:
        stream = self._container.add_stream(ENCODER, rate=self.rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(RATE_FACTORS[self.quality])}
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _STUDIO
        return stream


def check_output(path: str | Path) -> None:
    """Check that ``Mp4Writer`` can write to ``path``.

    Raises:
        InputError: see ``Mp4Writer``.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InputError(f"{path}: the name of a video must end in .mp4, .webp or .gif")
    if ENCODER not in _av().codecs_available:
        raise InputError(
            f"this PyAV cannot encode H.264 ({ENCODER}); the one on PyPI can: pip install 'openrayzer[video]'"
        )
    check_writable(path)


def _picture(frame: np.ndarray) -> Any:
    picture = _av().VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return picture.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_STUDIO)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("videos need PyAV: pip install 'openrayzer[video]'") from error
    return av
