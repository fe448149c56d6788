"""The commands that prepare data read remote roots and write to the local disk."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from openrayzer.cli import COMMANDS, run_tool
from openrayzer.data.sources.chunks import Chunks
from openrayzer.machine.remote_paths import forget_listings, located


@pytest.fixture
def prepare(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs ``openrayzer prepare``; returns the exit code and the output."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["prepare", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            run_tool(COMMANDS["prepare"].main)
        return caught.value.code, "".join(capsys.readouterr())

    return run


def keys(dataset: Chunks) -> list[str]:
    dataset.open()
    assert dataset.problems == ()
    return [dataset.key(scene) for scene in range(len(dataset))]


def test_an_index_of_remote_chunks_is_made_whole_or_in_parts(bucket: str, library: Path, tmp_path: Path, prepare):
    for output, parts in (("whole", []), ("parts", ["1/2", "2/2"])):
        for part in parts or [""]:
            options = ["--part", part] if part else []
            code, said = prepare("index", f"{bucket}/chunks", "--output", tmp_path / output, *options)
            assert code == 0, said
    code, said = prepare("merge", tmp_path / "parts")
    assert code == 0, said
    index, joined = (tmp_path / name / "train/frame_index.bin" for name in ("whole", "parts"))
    assert index.read_bytes() == joined.read_bytes()
    root = f"{bucket}/chunks"
    assert keys(Chunks(root=root, frame_index=index)) == keys(Chunks(root=library / "chunks"))


OPTIONS = {"verify": (), "overlap": ("--samples", 1, "--max_interval", 2), "convert": ("--short_side", 24)}


@pytest.mark.parametrize("command", OPTIONS)
def test_parts_of_a_remote_source_merge_to_the_bytes_of_its_local_copy(
    bucket: str, library: Path, tmp_path: Path, prepare, command: str
):
    made = []
    for name, root in (("far", bucket), ("near", library)):
        output = tmp_path / name / "result"
        output.parent.mkdir()
        for part in ("2/2", "1/2") if name == "far" else (None,):
            options = (*OPTIONS[command], "--processes", 1, *(("--part", part) if part else ()))
            code, said = prepare(command, "--from", "chunks", f"{root}/indexed", "--output", output, *options)
            assert code == 0, said
        if name == "far":
            code, said = prepare("merge", output)
            assert code == 0, said
        files = sorted(output.rglob("*.torch")) or [output]
        made.append([path.read_bytes().replace(str(root).encode(), b"ROOT") for path in files])
    assert made[0] == made[1]


def test_a_part_whose_remote_chunks_have_changed_is_indexed_again(bucket: str, library: Path, tmp_path: Path, prepare):
    system, root = fsspec.filesystem("s3"), bucket.replace("library", "changing")
    system.put(str(library / "chunks/train"), f"{root}/train", recursive=True)
    command = ("index", root, "--output", tmp_path, "--part", "1/1")
    part = tmp_path / "train/frame_index.bin.parts/part_1_of_1.npz"
    made = []
    for content in (None, None, "000001"):  # the chunks have the same size
        forget_listings(located(root))  # as a new process
        if content:
            data = (library / f"chunks/train/{content}.torch").read_bytes()
            system.pipe_file(f"{root}/train/000000.torch", data)
        assert prepare(*command)[0] == 0
        made.append(part.read_bytes())
    assert made[0] == made[1] != made[2]


def test_an_index_of_remote_chunks_needs_a_place_on_the_local_disk(bucket: str, prepare):
    code, said = prepare("index", f"{bucket}/chunks")
    assert code == 2
    assert f"the index of {bucket}/chunks needs --output with a folder of the local disk" in said


def test_remote_photos_are_converted_and_verified(memory: str, tmp_path: Path, prepare):
    code, said = prepare("convert", "--from", "images", f"{memory}/images", "--output", tmp_path / "small",
                         "--short_side", 24, "--processes", 1)  # fmt: skip
    assert code == 0, said
    assert keys(Chunks(root=tmp_path / "small", posed=False)) == ["a b", "c/d#1", "c/e 100%"]
    code, said = prepare("verify", "--from", "chunks", f"{memory}/indexed", "--processes", 1)
    assert code == 0, said
    assert "36" in said
