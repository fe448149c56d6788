"""Damage of checkpoints is noticed and named; no run starts from scratch because of it; no file runs code."""

import json
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import toy

from openrayzer.interfaces import InputError
from openrayzer.settings import BadSteps
from openrayzer.training.checkpointing import publishing, saving
from openrayzer.weights.checkpoints.manifest import checksum, damage_of, newest_good

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
def test_a_damaged_checkpoint_is_skipped_with_an_error_in_the_log(run_folder: Path, caplog, harm, message: str):
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
    with pytest.raises(
        InputError, match=r"all 3 checkpoint\(s\) are damaged.*choose another --output to start a new training"
    ):
        train(run_folder, steps=4)


def test_an_unfinished_folder_is_no_checkpoint(train: Train, run_folder: Path):
    shutil.copytree(run_folder / "checkpoints/step_00000003", run_folder / "checkpoints/step_00000009.tmp")
    assert newest_good(run_folder / "checkpoints").name == "step_00000003"
    train(run_folder, steps=4)
    assert not list((run_folder / "checkpoints").glob("*.tmp"))


def test_a_kill_before_the_rename_leaves_the_checkpoint_before(train: Train, run_folder: Path, monkeypatch):
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


def test_torchs_error_about_a_full_disk_is_recognised(train: Train, run_folder: Path, monkeypatch):
    def full(*arguments: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 38016 vs 37910")

    monkeypatch.setattr(saving, "publish", full)
    with pytest.raises(InputError, match=r"\d+ MiB are free there.*free some space"):
        train(run_folder, steps=4)


def test_an_error_in_the_background_ends_the_run_soon(train: Train, tmp_path: Path, monkeypatch, caplog):
    """The error is raised at once, not only when the next checkpoint is due."""

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "flush", full)
    with caplog.at_level(logging.INFO), pytest.raises(InputError, match=r"step_00000002 could not be written"):
        train(tmp_path, steps=500, checkpoint_every=2)
    assert "train step 499/500" not in caplog.text


def test_a_stop_that_cannot_be_saved_is_still_a_stop(train: Train, run_folder: Path, monkeypatch, caplog):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    rule = BadSteps(grace_steps=0, max_in_a_row=1)
    monkeypatch.setattr(saving, "publish", full)
    assert train(run_folder, steps=9, bad_steps=rule, bad_calls=(0,)) == 3
    assert "free some space" in caplog.text
    assert "training stopped: 1 steps in a row were skipped" in caplog.text
    assert (run_folder / "bad_steps/step_00000004/step.json").exists()


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning(train: Train, run_folder: Path, monkeypatch, caplog):
    def busy(path: Path) -> None:
        raise OSError(39, "Directory not empty")

    with monkeypatch.context() as patch:
        patch.setattr(publishing.shutil, "rmtree", busy)
        assert train(run_folder, steps=4, keep_checkpoints=1) == 0
    assert "old checkpoints could not be removed" in caplog.text
    assert (run_folder / "checkpoints/latest").read_text() == "step_00000004"
    assert train(run_folder, steps=5, keep_checkpoints=1) == 0
    assert [path.name for path in (run_folder / "checkpoints").glob("step_*")] == ["step_00000005"]


def test_a_checkpoint_from_before_there_were_metrics_and_losses_in_it_goes_on(train: Train, run_folder: Path):
    folder = run_folder / "checkpoints/step_00000003"
    state = torch.load(folder / "rank_00000.pt", weights_only=True)
    del state["losses"]
    torch.save(state, folder / "rank_00000.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["metrics"]
    manifest["files"] |= publishing.describe(folder, ["rank_00000.pt"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert train(run_folder, steps=4) == 0


def test_a_model_that_was_edited_is_a_message(train: Train, run_folder: Path, monkeypatch):
    monkeypatch.setattr(toy, "ToyModel", partial(toy.ToyModel, width=9))
    with pytest.raises(
        InputError, match=r"(?s)step_00000003 belongs to another model than the code builds now.*size mismatch"
    ):
        train(run_folder, steps=4)


@pytest.mark.parametrize("name", [MODEL, "rank_00000.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"])
def test_no_file_of_a_checkpoint_can_run_code(train: Train, run_folder: Path, name: str):
    folder = run_folder / "checkpoints/step_00000003"
    if not (folder / name).exists():
        pytest.fail(f"{sorted(path.name for path in folder.iterdir())}")
    torch.save({"module": toy.Evil(run_folder / "harmed")}, folder / name)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = [(folder / name).stat().st_size, checksum(folder / name)]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"step_00000003.* contains code, which is not run"):
        train(run_folder, steps=4)
    assert not (run_folder / "harmed").exists()
