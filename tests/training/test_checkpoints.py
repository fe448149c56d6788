"""Checkpoints: damage is noticed and named, nothing starts from scratch, nothing runs code."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openrayzer.interfaces import InputError
from openrayzer.training import checkpoint, saving
from openrayzer.training.checkpoint import damage_of, newest_good

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

Train = Callable[..., int]
MODEL = "mp_rank_00_model_states.pt"


@pytest.fixture
def run_folder(train: Train, tmp_path: Path) -> Path:
    """A run with checkpoints at steps 1, 2 and 3."""
    train(tmp_path, steps=3, checkpoint_every=1)
    return tmp_path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: truncate(folder / MODEL), "bytes instead of"),
        (lambda folder: flip(folder / MODEL), "has changed since it was written"),
        (lambda folder: (folder / "rank_00000.pt").unlink(), "rank_00000.pt is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "no readable manifest.json"),
        (lambda folder: truncate(folder / "manifest.json"), "no readable manifest.json"),
    ],
)
def test_a_damaged_checkpoint_is_loudly_passed_over(run_folder: Path, caplog, harm, message: str):
    harm(run_folder / "checkpoints/step_00000003")
    with caplog.at_level(logging.ERROR):
        good = newest_good(run_folder / "checkpoints")
    assert good is not None
    assert good.name == "step_00000002"
    assert "IS DAMAGED" in caplog.text
    assert message in caplog.text


def test_if_all_are_damaged_nothing_starts_from_scratch(train: Train, run_folder: Path):
    for path in (run_folder / "checkpoints").glob("step_*"):
        truncate(path / MODEL)
    with pytest.raises(InputError, match=r"all 3 checkpoint\(s\) are damaged.*not start again from nothing"):
        train(run_folder, steps=4)


def test_what_was_never_finished_is_not_a_checkpoint(train: Train, run_folder: Path):
    shutil.copytree(run_folder / "checkpoints/step_00000003", run_folder / "checkpoints/step_00000009.tmp")
    assert newest_good(run_folder / "checkpoints").name == "step_00000003"
    train(run_folder, steps=4)
    assert not list((run_folder / "checkpoints").glob("*.tmp"))


def test_dying_before_the_rename_leaves_the_one_before(train: Train, run_folder: Path, monkeypatch):
    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saving, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            train(run_folder, steps=4)
    assert newest_good(run_folder / "checkpoints").name == "step_00000003"
    assert train(run_folder, steps=4) == 0
    assert (run_folder / "checkpoints/latest").read_text() == "step_00000004"


def test_a_full_disk_is_a_message_and_harms_nothing(train: Train, run_folder: Path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "publish", full)
    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        train(run_folder, steps=4)
    assert not damage_of(run_folder / "checkpoints/step_00000003")
    assert not list((run_folder / "checkpoints").glob("*.tmp"))


def test_torchs_own_words_for_a_full_disk_are_understood(train: Train, run_folder: Path, monkeypatch):
    def full(*arguments: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 38016 vs 37910")

    monkeypatch.setattr(saving, "publish", full)
    with pytest.raises(InputError, match=r"\d+ MiB are free there.*free some space"):
        train(run_folder, steps=4)


class Evil:
    """Would create a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", [MODEL, "rank_00000.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"])
def test_no_file_of_a_checkpoint_can_run_code(train: Train, run_folder: Path, name: str):
    folder = run_folder / "checkpoints/step_00000003"
    if not (folder / name).exists():
        pytest.fail(f"{sorted(path.name for path in folder.iterdir())}")
    torch.save({"module": Evil(run_folder / "harmed")}, folder / name)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = [(folder / name).stat().st_size, checkpoint.checksum(folder / name)]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match=r"[Ww]eights.only|Unsupported"):
        train(run_folder, steps=4)
    assert not (run_folder / "harmed").exists()
