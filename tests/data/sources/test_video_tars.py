"""Videos in tar archives are scenes that are read where they lie, with WebDataset's names."""

import io
import pickle
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.data.sources.video import Video
from openrayzer.data.sources.video_tars import VideoTars
from openrayzer.interfaces import InputError

pytest.importorskip("av")


def write_video(path: Path, red: int) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (32, 24))
    for frame in range(5):
        writer.write(np.full((24, 32, 3), (40 * frame, 0, red), np.uint8))
    writer.release()
    return path.read_bytes()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def clips(tmp_path) -> dict[str, bytes]:
    """Four videos by name."""
    return {f"clip_{clip}.mp4": write_video(tmp_path / f"clip_{clip}.mp4", 60 * clip) for clip in range(4)}


@pytest.fixture
def root(tmp_path, clips) -> Path:
    """Two archives with two samples each, and other members beside the videos."""
    for shard in range(2):
        names = [f"clip_{2 * shard + place}" for place in range(2)]
        members = {f"{name}.{ending}": b"{}" for name in names for ending in ("json", "txt")}
        members |= {f"./{name}.MP4": clips[f"{name}.mp4"] for name in names} | {"__index__/skipped.mp4": b"no video"}
        write_tar(tmp_path / "root" / f"{shard:06}.tar", members)
    return tmp_path / "root"


def opened(root: Path | str, **settings) -> VideoTars:
    dataset = VideoTars(root=root, **settings)
    dataset.open()
    return dataset


def keys(dataset: VideoTars) -> list[str]:
    return [dataset.key(scene) for scene in range(len(dataset))]


def test_each_video_is_a_scene_named_by_archive_and_key(root):
    dataset = opened(root)
    assert keys(dataset) == [f"{clip // 2:06}/clip_{clip}" for clip in range(4)]
    assert dataset.problems == ()


def test_frames_are_those_of_the_video_in_its_own_file(root, tmp_path):
    dataset, alone = opened(root), Video(root=tmp_path / "clip_3.mp4")
    alone.open()
    for reader in (dataset, pickle.loads(pickle.dumps(dataset)), opened(root, scan_limit=0)):
        assert reader.num_frames(3) == alone.num_frames(0) == 5
        for ours, other in zip(reader.read(3, [4, 0, 2]).images, alone.read(0, [4, 0, 2]).images, strict=True):
            np.testing.assert_array_equal(ours, other)
    assert dataset.version(2, 0) != dataset.version(3, 0)


def test_a_pattern_names_archives(root):
    assert keys(opened(f"{root}/{{000001..000001}}.tar")) == ["000001/clip_2", "000001/clip_3"]
    dataset = opened(f"{root}/{{000000..000002}}.tar")
    assert len(dataset) == 4
    assert dataset.problems == (f"{root}/000002.tar: there is no such file",)
    with pytest.raises(InputError, match=r"\{9\.\.3\} must rise"):
        opened(f"{root}/{{9..3}}.tar")


def test_one_archive_may_be_the_root(root):
    assert keys(opened(root / "000000.tar")) == ["000000/clip_0", "000000/clip_1"]


def test_a_damaged_archive_is_named_and_the_others_are_used(root, clips):
    whole = (root / "000000.tar").read_bytes()
    (root / "cut.tar").write_bytes(whole[: whole.index(clips["clip_1.mp4"]) + 99])
    (root / "text.tar").write_text("no archive " * 99)
    write_tar(root / "packed.tar", {"x.mp4": clips["clip_0.mp4"]}, "w:gz")
    write_tar(root / "twice.tar", {"x.mp4": clips["clip_0.mp4"], "./x.mp4": clips["clip_1.mp4"], "../y.mp4": b"1"})
    dataset = opened(root)
    assert keys(dataset)[4:] == ["cut/clip_0", "twice/x"]
    problems = "\n".join(dataset.problems)
    for fault in (
        "cut.tar: './clip_1.MP4' is left out: the archive is cut",
        "text.tar: it cannot be read",
        "packed.tar: it is compressed; unpack it",
        "twice.tar: './x.mp4' is left out: its name stands twice or leaves the archive",
    ):
        assert fault in problems


def test_an_archive_without_videos_is_refused(tmp_path):
    write_tar(tmp_path / "a.tar", {"x.json": b"{}"})
    with pytest.raises(InputError, match=r"no videos in the tar archives of .*: looked for \.avi"):
        opened(tmp_path)
