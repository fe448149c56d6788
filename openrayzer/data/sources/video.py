"""Dataset ``video``: video files without cameras."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openrayzer.data.chunk_files.format import Origin
from openrayzer.data.scene_names import relative_key
from openrayzer.data.sources.lazy_scenes import LazyScenes, SceneContents
from openrayzer.data.sources.video_decoder import VideoDecoder, VideoError, VideoFile, VideoIndex, read_index
from openrayzer.interfaces import DATASETS, Frames, InputError
from openrayzer.machine.plain_files import (
    FileError,
    check_plain_file,
    find_folders,
    is_file,
    list_folder,
    require_folder,
)

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})


@dataclass(frozen=True)
class VideoScene(SceneContents):
    """One video: the index of all its frames, and the times of the frames of the scene."""

    index: VideoIndex
    times: np.ndarray
    frame_faults: Mapping[int, str] = field(default_factory=dict)
    remark: str = ""

    @property
    def num_frames(self) -> int:
        """Number of frames of the scene."""
        return len(self.times)


@DATASETS.register("video")
class Video(LazyScenes[VideoScene]):
    """Video files without cameras; each file is one scene. PyAV decodes the chosen frames.

    Frames are rotated by the orientation in the file. Checking a video reads the whole file once without decoding it.

    Args:
        root: a video, or a folder with videos up to 6 levels below it: mp4, mov, mkv, webm, avi.
        fps: frames per second to use; each is the frame that a player shows at this time. None uses every frame.
        scenes: text file with the names of the scenes to use, one per line; None for all scenes.
        scan_limit: largest number of videos that opening checks.
        follow_links: whether links may lead out of ``root``.
    """

    posed = False
    keep_tables = True  # 8 bytes per frame; reading them again would read the whole file

    def __init__(
        self,
        *,
        root: Path | str,
        fps: float | None = None,
        scenes: Path | str | None = None,
        scan_limit: int = 16,
        follow_links: bool = False,
    ) -> None:
        super().__init__(root=root, scenes=scenes, scan_limit=scan_limit, follow_links=follow_links)
        if fps is not None and not 0 < fps <= 1000:
            raise InputError(f"fps must be above 0 and at most 1000, got {fps}")
        self.fps = fps
        self._decoder: tuple[int, int, VideoDecoder] | None = None  # process number, scene, decoder

    def find(self, problems: list[str]) -> Iterable[tuple[str, Path]]:
        if is_file(self.root):
            return [(self.root.name, self.root)]
        require_folder(self.root)
        folders = find_folders(self.root, _has_videos, follow_links=self.follow_links, problems=problems, nested=True)
        places = [folder / name for folder in folders for name in list_folder(folder)[0] if _is_video(name)]
        if not places:
            raise InputError(
                f"no videos in {self.root} or the folders below it: looked for {', '.join(sorted(VIDEO_SUFFIXES))}"
            )
        return [(relative_key(place, self.root), place) for place in places]

    def load(self, place: Path) -> VideoScene:
        video = self.file_of(place)
        check_plain_file(video.path, root=None if self.follow_links else self._confines)
        try:
            index = read_index(video)
        except VideoError as error:
            raise FileError(str(error)) from error
        times = index.times if self.fps is None else index.at_rate(self.fps)
        lost = f"it is cut short: {index.num_lost} frame(s) at its end are missing" if index.num_lost else ""
        return VideoScene(index, times, remark=lost)

    def file_of(self, place: Path) -> VideoFile:
        """Where the bytes of the video of a scene are."""
        return VideoFile(place)

    @property
    def _confines(self) -> Path:
        return self.root.absolute().parent if self.root.is_file() else self.root

    def read(self, scene: int, frames: Sequence[int]) -> Frames:
        table = self.table(scene)
        images: dict[int, np.ndarray] = {}
        for frame in sorted(set(frames)):
            self.check_frame(scene, frame)
            try:
                images[frame] = self._open_decoder(scene, table).frame(int(table.times[frame]))
            except VideoError as error:
                raise self.broken(scene, frame, error) from error
        return Frames([images[frame] for frame in frames], None, None)

    def origin(self, scene: int) -> Origin:
        """The times of the frames in microseconds after the first frame."""
        table = self.table(scene)
        times = np.round((table.times - table.times[0]) * (table.index.seconds * 1e6))
        return Origin("", times.astype(np.int64))

    def _open_decoder(self, scene: int, table: VideoScene) -> VideoDecoder:
        """The decoder of this process, opened for a scene; a decoder inherited from another process is not used."""
        if self._decoder is None or self._decoder[:2] != (os.getpid(), scene):
            if self._decoder is not None:
                self._decoder[2].close()
                self._decoder = None
            self._decoder = (os.getpid(), scene, VideoDecoder(self.file_of(self.place(scene)), table.index))
        return self._decoder[2]

    def open(self) -> None:
        self._decoder = None
        super().open()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_decoder": None}


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def _has_videos(files: list[str]) -> bool:
    return any(map(_is_video, files))
