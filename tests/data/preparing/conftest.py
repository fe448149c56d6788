"""Tiny chunks of noise, and the tool as a user runs it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import cv2
import numpy as np
import pytest

from openrayzer.cli import run_tool
from openrayzer.data.chunk_files.format import ChunkScene, cameras_to_rows, write_chunk, write_index

ROOT = Path(__file__).parents[3]


def picture(seed: int, *, size: tuple[int, int] = (24, 32)) -> bytes:
    """A JPEG file of smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.resize(noise, size[::-1]))[1].tobytes()


def chunk_scene(key: str, *, frames: int = 8, size: tuple[int, int] = (24, 32)) -> ChunkScene:
    """A scene along x, one unit between frames."""
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, 0, 3] = np.arange(frames)
    rows = cameras_to_rows(c2w, np.tile([0.8, 1.1, 0.5, 0.5], (frames, 1)))
    return ChunkScene(key, rows, [picture(i, size=size) for i in range(frames)], np.arange(frames) * 1000)


@pytest.fixture
def make_scene() -> Callable[..., ChunkScene]:
    """Makes a scene along x, one unit between frames."""
    return chunk_scene


@pytest.fixture
def write_root(tmp_path: Path) -> Callable[..., Path]:
    """Writes a root with one chunk per list of scenes."""

    def write(*chunks: Sequence[ChunkScene], split: str = "train", name: str = "root") -> Path:
        names = {}
        for number, scenes in enumerate(chunks):
            write_chunk(tmp_path / name / split / f"{number:06}.torch", scenes)
            names.update({scene.key: f"{number:06}.torch" for scene in scenes})
        write_index(tmp_path / name / split, names)
        return tmp_path / name

    return write


@dataclass(frozen=True)
class Done:
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch, capsys) -> Callable[..., Done]:
    """Runs tools/prepare_data.py in a new folder, which must stay empty: no file may run code."""
    spec = spec_from_file_location("prepare_data", ROOT / "tools" / "prepare_data.py")
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    here = tmp_path / "working_directory"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            run_tool(tool.main)
        assert not list(here.iterdir())
        return Done(caught.value.code, *capsys.readouterr())

    return run
