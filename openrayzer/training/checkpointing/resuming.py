"""The start of a run: new, or from a checkpoint. Rank 0 decides for all processes.

All input of the user is checked before anything is written, so a corrected second try finds an untouched folder.
"""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from openrayzer.interfaces import InputError
from openrayzer.machine.writing import whole_file
from openrayzer.settings import TrainSettings
from openrayzer.training.checkpointing.best_checkpoint import METRICS as MEASURED
from openrayzer.weights.checkpoints.manifest import MANIFEST, damage_of, newest_good, read_manifest
from openrayzer.weights.run_layout import CHECKPOINTS, EXPERIMENT, LOG_FILE, METRICS, STATISTICS
from openrayzer.weights.run_record import differences, read_record

LOG = logging.getLogger(__name__)
AUTO, NONE = "auto", "none"


def prepare_folder(run_folder: Path) -> bool:
    """Create the run folder; returns whether it is empty.

    Raises:
        InputError: it cannot be created or written.
    """
    probe = run_folder / ".writable"
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
        return not any(run_folder.iterdir())
    except OSError as error:
        raise InputError(f"--output {run_folder}: cannot be written: {error.strerror or error}") from error


def leave_no_trace(run_folder: Path) -> None:
    """Remove the folder of a run that did not begin, if it holds nothing but the log."""
    with suppress(OSError):
        if [path.name for path in run_folder.iterdir()] == [LOG_FILE]:
            (run_folder / LOG_FILE).unlink()
        run_folder.rmdir()


def choose_start(run_folder: Path, resume: str, record: Mapping[str, Any]) -> Path | None:
    """The checkpoint from which the run goes on; None for a new run. Nothing is written.

    Args:
        run_folder: the run folder.
        resume: ``auto`` goes on with the run in the folder, ``none`` requires an empty folder, and a path names a
            checkpoint or a run folder.
        record: content of experiment.json of the run that will start.

    Raises:
        InputError: the folder holds another experiment or a run that must not be resumed, or ``resume`` names nothing
            usable.
    """
    here = run_folder / CHECKPOINTS
    if resume == NONE:
        _refuse_existing(run_folder)
        start = None
    elif resume == AUTO:
        start = newest_good(here)
    else:
        start = _named(Path(resume))
        if start.parent.resolve() != here.resolve():
            _refuse_existing(run_folder)
    if start:
        _refuse_other(start / EXPERIMENT, record)
    elif (run_folder / METRICS).exists():  # otherwise that run never made a step
        _refuse_other(run_folder / EXPERIMENT, record)
    return start


def step_of(start: Path | None) -> int:
    """The step of a checkpoint; 0 without one."""
    return int(read_manifest(start)["step"]) if start else 0


def lacks_evaluation(start: Path | None, run_folder: Path, settings: TrainSettings) -> bool:
    """Whether the run ended between the checkpoint ``start`` and the evaluation that was due at its step."""
    if start is None or start.parent.resolve() != (run_folder / CHECKPOINTS).resolve():
        return False
    manifest, every = read_manifest(start), settings.evaluate_every
    step = int(manifest["step"])
    due = step == settings.steps or (every > 0 and step % every == 0)
    return due and manifest.get(MEASURED) == {}


def take_over(run_folder: Path, start: Path | None, record: Mapping[str, Any], *, evaluated: bool = True) -> None:
    """Write experiment.json, and remove the lines and checkpoints of steps that will be made again.

    Args:
        run_folder: the run folder.
        start: the checkpoint from which the run goes on.
        record: of the run.
        evaluated: False if the evaluation of ``start`` will be made again.

    Raises:
        InputError: the folder cannot be written.
    """
    here, step = run_folder / CHECKPOINTS, step_of(start)
    try:
        if start and start.parent.resolve() == here.resolve():
            _abandon_later(here, step)
        with whole_file(run_folder / EXPERIMENT, flush=False) as temporary:
            temporary.write_text(json.dumps(record, indent=2, default=str), encoding="utf-8")
        for lines in (METRICS, STATISTICS):
            _forget_after(run_folder / lines, step, evaluated=evaluated)
    except OSError as error:
        raise InputError(f"--output {run_folder}: cannot be written: {error.strerror or error}") from error


def _named(path: Path) -> Path:
    if (path / MANIFEST).is_file():
        damage = damage_of(path)
        if damage:
            raise InputError(f"--resume {path}: damaged: {damage}")
        return path
    good = newest_good(path / CHECKPOINTS)
    if good is None:
        raise InputError(f"--resume {path}: neither a checkpoint (no {MANIFEST}) nor a run folder with checkpoints")
    return good


def _refuse_existing(run_folder: Path) -> None:
    if (run_folder / EXPERIMENT).exists() or (run_folder / CHECKPOINTS).exists():
        raise InputError(
            f"--output {run_folder} already holds a run, which is not overwritten: go on with --resume auto, "
            "choose another --output, or remove the folder"
        )


def _refuse_other(before: Path, record: Mapping[str, Any]) -> None:
    if not before.exists():
        return
    changed = differences(read_record(before), record)
    if changed:
        lines = "\n  ".join(changed)
        raise InputError(
            f"{before.parent} belongs to another experiment:\n  {lines}\nA resumed run must keep these settings "
            "(docs/training.md lists the settings that may change); choose another --output for a new run"
        )


def _abandon_later(folder: Path, step: int) -> None:
    """Rename checkpoints after ``step``, to which the user went back, so that the next resume does not take them."""
    for path in folder.glob("step_*"):
        later = (path / MANIFEST).is_file() and path.name.removeprefix("step_").isdigit()
        if later and int(path.name.removeprefix("step_")) > step:
            target = path.with_name(f"abandoned_{path.name}")
            LOG.warning("%s is later than the checkpoint of this start; it is renamed to %s", path.name, target.name)
            path.rename(target)


def _forget_after(metrics: Path, step: int, *, evaluated: bool) -> None:
    """Drop the lines of steps and evaluations that will be made again, and a half line of a run that was killed."""
    if not metrics.exists():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            values = json.loads(line)
            again = values["step"] > step or (
                values["step"] == step and not evaluated and values.get("split", "train") != "train"
            )
        except (ValueError, KeyError, TypeError):
            continue
        if not again:
            kept.append(line)
    with whole_file(metrics, flush=False) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
