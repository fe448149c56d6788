"""Moving pictures hold the frames in order, last as long as the frame rate says, and repeat for ever."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openrayzer.interfaces import InputError
from openrayzer.video.animation import AnimationWriter, check_output, open_video
from openrayzer.video.mp4 import Mp4Writer

REDS = (0, 60, 120, 180, 240)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_frames_come_back_in_order_with_their_duration(tmp_path: Path, suffix: str):
    file = tmp_path / f"out{suffix}"
    with open_video(file, fps=10.0, quality="best") as video:
        for red in REDS:
            video.add(np.full((12, 17, 3), (red, 40, 90), np.uint8))
    with Image.open(file) as picture:
        assert (picture.size, picture.n_frames, picture.info["loop"]) == ((17, 12), len(REDS), 0)
        for number, red in enumerate(REDS):
            picture.seek(number)
            assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - (red, 40, 90)).max() <= 6
            assert picture.info["duration"] == 100
    assert [file.name for file in tmp_path.iterdir()] == [file.name]


def test_an_error_keeps_the_file_that_was_there(tmp_path: Path):
    file = tmp_path / "out.webp"
    file.write_bytes(b"before")
    video = AnimationWriter(file, fps=10.0)
    video.add(np.zeros((4, 4, 3), np.uint8))
    video.__exit__(RuntimeError, RuntimeError("stop"), None)
    assert file.read_bytes() == b"before"


def test_a_moving_picture_without_frames_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="needs at least one frame"):
        AnimationWriter(tmp_path / "a.gif", fps=1.0).__exit__(None, None, None)


def test_a_gif_that_browsers_would_slow_down_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="a GIF has at most 50 frames per second, got --fps 60"):
        check_output(tmp_path / "a.gif", fps=60.0)
    check_output(tmp_path / "a.webp", fps=60.0)


def test_the_suffix_chooses_the_writer(tmp_path: Path):
    assert isinstance(open_video(tmp_path / "a.GIF", fps=1.0, quality="high"), AnimationWriter)
    assert isinstance(open_video(tmp_path / "a.mp4", fps=1.0, quality="high"), Mp4Writer)
