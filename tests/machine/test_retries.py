"""A network file system that errors for a while."""

import errno
import os
from pathlib import Path

import pytest
import torch

from openrayzer.data.sources.chunks import Chunks
from openrayzer.interfaces import BrokenSceneError
from openrayzer.machine import retries
from openrayzer.machine.retries import WAITS, with_retries


class Flaky:
    """Fails so many times with an error number, then answers."""

    def __init__(self, times: int, number: int) -> None:
        self.times, self.number, self.calls = times, number, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            try:
                raise OSError(self.number, "server not responding")
            except OSError as error:
                raise BrokenSceneError("chunk.torch: it cannot be read") from error
        return "content"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_passing_error_is_waited_out(number: int):
    waited: list[float] = []
    read = Flaky(3, number)
    assert with_retries(read, sleep=waited.append) == "content"
    assert waited == list(WAITS[:3])


def test_patience_has_an_end():
    waited: list[float] = []
    with pytest.raises(BrokenSceneError, match="cannot be read"):
        with_retries(Flaky(1000, errno.EIO), sleep=waited.append)
    assert waited == list(WAITS)
    assert sum(waited) < 60


@pytest.mark.parametrize(("longest", "calls"), [(-1.0, 1), (60.0, 4)])
def test_no_call_is_repeated_after_the_longest_time(longest: float, calls: int):
    read = Flaky(1000, errno.EIO)
    with pytest.raises(BrokenSceneError):
        with_retries(read, waits=(0.0, 0.0, 0.0), longest=longest)
    assert read.calls == calls


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_other_errors_are_raised_without_waiting(number: int):
    read = Flaky(1, number)
    with pytest.raises(BrokenSceneError):
        with_retries(read, sleep=lambda seconds: pytest.fail("waited"))
    assert read.calls == 1


def test_broken_content_is_not_read_again():
    calls = []

    def read() -> None:
        calls.append(1)
        raise BrokenSceneError("frame 3 is no image")

    with pytest.raises(BrokenSceneError):
        with_retries(read, sleep=lambda seconds: pytest.fail("waited"))
    assert len(calls) == 1


def test_a_clip_of_a_chunk_survives_errors_of_the_file_system(tmp_path: Path, monkeypatch, caplog):
    from openrayzer.data.loading.clips import read_clip
    from openrayzer.interfaces import ViewChoice

    write_chunk(tmp_path / "train/000000.torch")
    dataset = Chunks(root=tmp_path)
    dataset.open()
    choice = ViewChoice((0, 2), (1,))
    expected = read_clip(dataset, 0, choice, image_size=(8, 8))
    real, failures = os.pread, [errno.EIO, errno.ESTALE]

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if failures:
            raise OSError(failures.pop(0), "Stale file handle")
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(retries, "WAITS", (0.0, 0.0, 0.0))
    again = read_clip(dataset, 0, choice, image_size=(8, 8))
    assert not failures
    assert (again.images == expected.images).all()
    assert caplog.text.count("trying again") == 2


def write_chunk(path: Path) -> None:
    import cv2
    import numpy as np

    path.parent.mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    encoded = torch.from_numpy(cv2.imencode(".png", picture)[1].reshape(-1).copy())
    camera = torch.tensor([1, 1, 0.5, 0.5, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], dtype=torch.float32)
    scene = {"key": "scene", "url": "", "timestamps": torch.arange(3), "cameras": camera.expand(3, 18).clone()}
    torch.save([scene | {"images": [encoded.clone() for _ in range(3)]}], path)
