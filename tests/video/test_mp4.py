"""Mp4Writer writes exactly the frames it is given, or no file."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from openrayzer.interfaces import InputError
from openrayzer.video.mp4 import Mp4Writer, check_output

av = pytest.importorskip("av")


def written(path: Path, *, frames: int = 7, size: tuple[int, int] = (32, 48), **settings) -> list[np.ndarray]:
    """Write a video and return its frames; frame i has red 30 * i on the left and green on the right."""
    pictures = []
    for number in range(frames):
        picture = np.zeros((*size, 3), np.uint8)
        picture[:, : size[1] // 2] = (30 * number, 40, 60)
        picture[:, size[1] // 2 :] = (20, 200, 90)
        pictures.append(picture)
    with Mp4Writer(path, fps=25.0, **settings) as video:
        for picture in pictures:
            video.add(picture)
    return pictures


def test_decoded_frames_are_the_given_frames(tmp_path: Path):
    given = written(tmp_path / "a/out.mp4", quality="best")
    with av.open(str(tmp_path / "a/out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.frames) == (25, 7)
        assert float(stream.duration * stream.time_base) == pytest.approx(7 / 25)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == len(given)
    for frame, expected in zip(frames, given, strict=True):
        for column in (6, 40):
            assert np.abs(frame[16, column].astype(int) - expected[16, column]).max() <= 6
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["out.mp4"]


def test_the_lower_the_quality_the_smaller_the_file(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), np.uint8)
    sizes = []
    for quality in ("best", "high", "small"):
        with Mp4Writer(tmp_path / f"{quality}.mp4", fps=30.0, quality=quality) as video:
            for frame in noise:
                video.add(frame)
        sizes.append((tmp_path / f"{quality}.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)


def test_odd_sides_become_even(tmp_path: Path):
    written(tmp_path / "out.mp4", size=(31, 49))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (32, 50)


def test_a_failure_leaves_the_old_video(tmp_path: Path):
    (tmp_path / "out.mp4").write_bytes(b"before")

    def frames() -> Iterator[np.ndarray]:
        yield np.zeros((32, 32, 3), np.uint8)
        raise KeyError("the model failed")

    def write() -> None:
        with Mp4Writer(tmp_path / "out.mp4", fps=30.0) as video:
            for frame in frames():
                video.add(frame)

    with pytest.raises(KeyError):
        write()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"out.mp4": b"before"}


def test_a_video_without_frames_is_refused(tmp_path: Path):
    with (
        pytest.raises(ValueError, match=r"out.mp4: a video needs at least one frame"),
        Mp4Writer(tmp_path / "out.mp4", fps=30.0),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.gif", "out.gif: the name of a video must end in .mp4"),
        ("out", "must end in .mp4"),
        ("file/out.mp4", "cannot be written: .*file is not a folder"),
        ("folder.mp4", "it is a folder"),
        ("/proc/none/out.mp4", "/proc/none/out.mp4 cannot be written"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, said: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match=said):
        check_output(tmp_path / name)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'openrayzer\[video\]'"):
        check_output(tmp_path / "out.mp4")


def test_a_pyav_without_the_encoder_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"h264"})
    with pytest.raises(InputError, match=r"cannot encode H\.264"):
        check_output(tmp_path / "out.mp4")
