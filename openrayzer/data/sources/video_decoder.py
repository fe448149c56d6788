"""Random access to the frames of a video: an index without decoding, and exact decoding of any frame."""

import contextlib
import io
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from openrayzer.data.pixels.decoding import MAX_PIXELS
from openrayzer.interfaces import InputError
from openrayzer.machine.opened_files import RemoteFile
from openrayzer.machine.remote_paths import RemotePath

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""Containers that may be opened. Playlists are not among them, because they refer to other files."""


_ENCODE = "ffmpeg -i IN -c:v libx264 -crf 17 OUT.mp4"
_PREFETCHED = 1 << 26  # bytes; usually the whole of a remote clip
_TRIED = 64  # frames decoded to check times that may be in the order of decoding
_UNSURE = 3  # frames by which a stated duration may be wrong
_REORDERING = frozenset({"h264", "hevc"})  # FFmpeg knows their times only from the container


class VideoError(ValueError):
    """A video that cannot be used; the message gives the reason without the name of the file."""


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video in the order of presentation.

    Attributes:
        times: (f,) int64, rising, in time units of the stream.
        keys: times of the frames at which decoding can start, rising.
        seconds: length of a time unit.
        num_lost: number of frames missing at the end, according to the header; estimated if the header has a duration.
    """

    times: np.ndarray
    keys: np.ndarray
    seconds: float
    num_lost: int = 0

    def at_rate(self, fps: float) -> np.ndarray:
        """Times (g,) of the frames that a player shows 0, 1 / fps, 2 / fps, ... seconds after the first frame."""
        passed = (self.times - self.times[0]) * self.seconds
        first = np.ceil((passed - 1e-6) * fps)  # number of the first such moment at or after each frame
        return self.times[np.append(first[:-1] < first[1:], first[-1] <= np.floor(passed[-1] * fps + 1e-6))]


@dataclass(frozen=True)
class VideoFile:
    """Where the bytes of a video are: a file, or a part of a file such as a tar archive.

    Attributes:
        path: the file.
        start, end: first byte of the part and the byte after its last; both 0 for the whole file.
    """

    path: Path
    start: int = 0
    end: int = 0

    def contents(self) -> io.BufferedReader | None:
        """The bytes of a remote video for FFmpeg, with the first ones fetched; None for a local video.

        Raises:
            OSError: they cannot be read.
        """
        if not isinstance(self.path, RemotePath):
            return None
        file = RemoteFile(self.path)
        end = self.end or file.size
        file.prefetch([(self.start, min(end - self.start, _PREFETCHED))])
        return file.stream(self.start, end)

    @property
    def address(self) -> str:
        """Address for FFmpeg, whose protocol "subfile" reads a part of a file."""
        whole = f"file:{self.path.absolute()}"
        return f"subfile,,start,{self.start},end,{self.end},,:{whole}" if self.end else whole


def read_index(video: VideoFile) -> VideoIndex:
    """Read the index of a video from its packets; frames are decoded only if their times are doubtful.

    Raises:
        VideoError: the video cannot be opened, has no frames, or does not state their times.
        InputError: PyAV is not installed.
    """
    times, keys, end = [], [], 0
    with _opened(video) as container:
        stream = _video_stream(container)
        with contextlib.suppress(_av().error.FFmpegError):  # truncated: use the frames before the end
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    raise VideoError(f"its frames have no times; to create times: {_ENCODE}")
                times.append(packet.pts)
                end = max(end, packet.pts + (packet.duration or 0))
                if packet.is_keyframe:
                    keys.append(packet.pts)
        seconds, stated = float(stream.time_base), int(stream.frames)
        if not times or not keys:
            raise VideoError("it has no frames")
        _check_order(container, stream, times)
        rising = np.unique(times)
        lost = max(0, stated - len(times)) if stated else _lost_by_length(container, stream, rising, end)
    return VideoIndex(rising, np.unique(keys), seconds, lost)


def _lost_by_length(container: Any, stream: Any, times: np.ndarray, end: int) -> int:
    """Estimated number of missing frames, from the duration that Matroska and WebM state instead of a number."""
    if not container.format.name.startswith("matroska"):
        return 0
    written = re.fullmatch(r"([0-9]{1,6}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,12})?)", stream.metadata.get("DURATION", ""))
    if written:
        hours, minutes, left = written.groups()
        stated = 3600.0 * int(hours) + 60.0 * int(minutes) + float(left)
    elif len(container.streams) == 1:  # duration of the whole file, which a longer sound track would change
        stated = (container.duration or 0) / 1e6
    else:
        return 0
    step = float(np.median(np.diff(times))) if len(times) > 1 else float(end - times[0])
    missing = (stated / float(stream.time_base) - max(end, int(times[-1]))) / step if step > 0 else 0.0
    return round(missing) if missing > _UNSURE else 0


def _check_order(container: Any, stream: Any, times: list[int]) -> None:
    """Raise VideoError if the times give the order of decoding and the order of presentation differs.

    AVI has only such times, and a copy of its packets to another container keeps them.
    """
    unordered = VideoError(f"its times do not give the order of its frames; to create new times: {_ENCODE}")
    avi, reordering = container.format.name == "avi", stream.codec_context.name in _REORDERING
    delayed = stream.codec_context.has_b_frames
    if avi and reordering and delayed:
        raise unordered
    if not (delayed or (avi and reordering)) or any(np.diff(times) <= 0):
        return
    last = None
    with contextlib.suppress(_av().error.FFmpegError):  # damaged: reading the frame reports it
        container.seek(times[0], stream=stream, backward=True)
        for frame in islice(container.decode(stream), _TRIED):
            if frame.pts is None:
                continue
            if last is not None and frame.pts < last:
                raise unordered
            last = frame.pts


class VideoDecoder:
    """Decoder of one video; frames read in rising order are decoded only once.

    Args:
        video: the file.
        index: the index of the file.

    Raises:
        VideoError: the file cannot be opened.
    """

    def __init__(self, video: VideoFile, index: VideoIndex) -> None:
        self.index = index
        self._container = _opened(video)
        try:
            self._stream = _video_stream(self._container)
        except VideoError:
            self.close()
            raise
        self._frames: Iterator[Any] = iter(())
        self._first: int | None = None  # times of the first and the last frame decoded since the last seek
        self._last: int | None = None

    def close(self) -> None:
        """Close the file and free the decoder."""
        self._container.close()

    def frame(self, time: int) -> np.ndarray:
        """The frame shown from ``time`` on, upright, as uint8 (h, w, 3), RGB.

        Raises:
            VideoError: the frame cannot be decoded.
        """
        keys = self.index.keys[: bisect_right(self.index.keys, time)]
        if not len(keys):
            raise VideoError("it cannot be decoded: there is no key frame before it")
        if self._last is not None and keys[-1] <= self._last < time:
            frame = self._decode_until(time)
            if frame is not None:
                return _picture(frame)
        for key in keys[::-1]:  # a container may seek too far; then the previous key frame is tried
            self._seek(int(key))
            frame = self._decode_until(time)
            if frame is not None:
                return _picture(frame)
            if self._first is not None and self._first <= time:
                break
        raise VideoError("it cannot be decoded: the video is damaged there")

    def _seek(self, time: int) -> None:
        self._first = self._last = None
        try:
            self._container.seek(time, stream=self._stream, backward=True)
        except _av().error.FFmpegError as error:
            raise VideoError(f"it cannot be found: {error}") from error
        self._frames = self._decoded()

    def _decode_until(self, time: int) -> Any:
        """Decode up to ``time`` and return its frame; None if it is not found.

        Raises:
            VideoError: the times of the decoded frames do not rise.
        """
        for frame in self._frames:
            if frame.pts is None:
                continue
            if self._last is not None and frame.pts < self._last:
                self._last = None
                raise VideoError(f"the times before it do not rise; to create new times: {_ENCODE}")
            self._first = frame.pts if self._first is None else self._first
            self._last = frame.pts
            if frame.pts >= time:
                return frame if frame.pts == time and not frame.is_corrupt else None
        self._last = None
        return None

    def _decoded(self) -> Iterator[Any]:
        """Yield the frames from here on; after a damaged frame, skip the frames before the next key frame."""
        failure = _av().error.FFmpegError
        damaged = False
        with contextlib.suppress(failure):  # truncated: use the frames before the end
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except failure:
                    damaged = True
                    continue
                for frame in frames:
                    damaged = (damaged or frame.is_corrupt) and not frame.key_frame
                    if not damaged:
                        yield frame


def _picture(frame: Any) -> np.ndarray:
    if frame.width * frame.height > MAX_PIXELS:
        raise VideoError(f"it has {frame.width} x {frame.height} pixels, more than the {MAX_PIXELS} allowed")
    # One thread: a worker forked later would not have the conversion threads, and would wait for them forever when it
    # frees an inherited frame.
    image = frame.to_ndarray(format="rgb24", threads=1)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))  # both angles are counter-clockwise


def _opened(video: VideoFile) -> Any:
    av = _av()
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file,subfile" if video.end else "file"}
    try:
        return av.open(video.contents() or video.address, options=options)
    except InputError:
        raise
    except OSError as error:
        raise VideoError(f"it cannot be read: {error.strerror or error}") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"it cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise VideoError("it has no frames: the file has no video stream")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise VideoError("its codec is unknown")
    if not 0 < context.width * context.height <= MAX_PIXELS:
        raise VideoError(
            f"its header says {context.width} x {context.height} pixels, more than the {MAX_PIXELS} allowed"
        )
    context.thread_type, context.thread_count = "NONE", 1  # the workers run in parallel
    context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
    return stream


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("videos need PyAV: pip install 'openrayzer[video]'") from error
    return av
