"""MP4 files, frame by frame: H.264 as every browser and player takes it."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from openrayzer.interfaces import InputError
from openrayzer.machine.writing import check_writable, unfinished, unwritable

Quality = Literal["best", "high", "small"]
RATE_FACTORS = {"best": 10, "high": 18, "small": 28}
"""x264's constant rate factors: 0 loses nothing, 18 is hardly told from the original, 51 is the worst."""

ENCODER = "libx264"
_BT709, _STUDIO = 1, 1  # as H.264 numbers them: primaries, transfer, matrix; black at 16 and white at 235


class Mp4Writer:
    """A video that is written frame by frame and exists once all of it does; use it in a ``with`` block.

    Colours are BT.709, 4:2:0. A side of an odd number of pixels is made even by repeating the last row or column.

    Args:
        path: an .mp4 file; replaced at the end, and left as it was if something fails.
        fps: frames per second, above 0.
        quality: against size, see ``RATE_FACTORS``.

    Raises:
        InputError: PyAV is not installed, or cannot encode H.264, or the file cannot be written.
    """

    def __init__(self, path: Path, *, fps: float, quality: Quality = "high") -> None:
        check_output(path)
        self.path, self.quality = path, quality
        self.rate = Fraction(fps).limit_denominator(1001)
        self._unfinished = unfinished(path)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "Mp4Writer":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = _av().open(str(self._unfinished), "w", format="mp4", options={"movflags": "+faststart"})
        except OSError as error:
            raise unwritable(self.path, error) from error
        return self

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """The next frame, RGB; all have the size of the first.

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
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None and self._stream is not None:
                self._unfinished.replace(self.path)
        except OSError as failure:
            if kind is None:
                raise unwritable(self.path, failure) from failure
        finally:
            self._unfinished.unlink(missing_ok=True)

    def _add_stream(self, height: int, width: int) -> Any:
        stream = self._container.add_stream(ENCODER, rate=self.rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(RATE_FACTORS[self.quality])}
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _STUDIO
        return stream


def check_output(path: Path) -> None:
    """Refuse early what could not be written in the end.

    Raises:
        InputError: see ``Mp4Writer``.
    """
    if path.suffix.lower() != ".mp4":
        raise InputError(f"{path}: videos are written as MP4; give a name that ends in .mp4")
    if ENCODER not in _av().codecs_available:
        raise InputError(
            f"this PyAV cannot encode H.264 ({ENCODER}); that of PyPI can: pip install 'openrayzer[video]'"
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
