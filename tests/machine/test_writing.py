"""A file or folder is written completely or not at all; after any failure the old one is there and nothing else."""

import logging
from pathlib import Path

import pytest

from openrayzer.interfaces import InputError
from openrayzer.machine.writing import (
    check_folder_writable,
    check_writable,
    refuse_filled,
    whole_file,
    whole_folder,
    write_or_warn,
)

DEATHS = [OSError(28, "No space left on device"), KeyboardInterrupt()]


def write_half(file: Path, death: BaseException) -> None:
    file.write_text("half")
    raise death


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("flush", [True, False])
def test_a_file_gets_its_name_once_it_is_whole(tmp_path: Path, flush: bool):
    path = tmp_path / "a/b/file.txt"
    for text in ("first", "second"):
        with whole_file(path, flush=flush) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert contents(tmp_path) == {"a/b/file.txt": text}


@pytest.mark.parametrize("flush", [True, False])
def test_a_file_is_flushed_before_it_is_renamed_only_if_asked(tmp_path: Path, monkeypatch, flush: bool):
    path, existed = tmp_path / "file", []
    monkeypatch.setattr("os.fsync", lambda _: existed.append(path.exists()))
    with whole_file(path, flush=flush) as temporary:
        temporary.write_text("text")
    assert existed == [False] * flush


@pytest.mark.parametrize("death", DEATHS)
def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path, death: BaseException):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(death)), whole_file(path) as temporary:
        write_half(temporary, death)
    assert contents(tmp_path) == {"file.txt": "old"}


def test_a_file_that_training_can_do_without_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert write_or_warn(tmp_path / "a.txt", lambda path: path.write_text("whole"))
        assert not write_or_warn(tmp_path / "b.txt", lambda path: write_half(path, DEATHS[0]))
    assert contents(tmp_path) == {"a.txt": "whole"}
    assert "b.txt: cannot be written (No space left on device); training goes on without it" in caplog.text


def test_a_folder_gets_its_name_once_it_is_whole(tmp_path: Path):
    with whole_folder(tmp_path / "a/out") as folder:
        (folder / "file").write_text("text")
        assert not (tmp_path / "a/out").exists()
    assert contents(tmp_path) == {"a/out/file": "text"}


def test_a_folder_with_files_is_replaced_only_if_asked(tmp_path: Path):
    output = tmp_path / "out"
    for name in ("first", "second"):
        with whole_folder(output, replace=True) as folder:
            (folder / name).write_text("")
        assert contents(tmp_path) == {f"out/{name}": ""}
    with pytest.raises(InputError, match=r"--to .*out: cannot be written: "), whole_folder(output, option="--to"):
        pass
    assert contents(tmp_path) == {"out/second": ""}


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("death", DEATHS)
def test_a_folder_that_could_not_be_written_leaves_the_old_one(tmp_path: Path, death: BaseException, replace: bool):
    if replace:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/file").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((InputError, KeyboardInterrupt)), whole_folder(tmp_path / "out", replace=replace) as folder:
        write_half(folder / "file", death)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with whole_folder(tmp_path / "link") as folder:
        (folder / "file").write_text("text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/file").read_text() == "text"


def test_links_in_a_loop_are_refused(tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="loop: cannot be written: "):
        check_folder_writable(tmp_path / "loop")


def test_checks_refuse_what_cannot_be_written_and_leave_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("text")
    check_writable(tmp_path / "file")
    check_folder_writable(tmp_path / "out")
    assert contents(tmp_path) == {"file": "text"}
    with pytest.raises(InputError, match="cannot be written: it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match=r"file/a.txt cannot be written: .*file is not a folder"):
        check_writable(tmp_path / "file/a.txt")
    with pytest.raises(InputError, match="file/out: cannot be written: Not a directory"):
        check_folder_writable(tmp_path / "file/out")
    with pytest.raises(InputError, match=r"--to .* exists and is not empty; choose another folder"):
        refuse_filled(tmp_path, option="--to")
    refuse_filled(tmp_path / "out")
