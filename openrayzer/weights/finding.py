"""Find and read weights in a run folder, a checkpoint, a weight folder or a ``.safetensors`` file.

No code from these files is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.weights.checkpoints.average import has_average, read_average
from openrayzer.weights.checkpoints.manifest import (
    MANIFEST,
    best_name,
    damage_of,
    newest_good,
    read_manifest,
)
from openrayzer.weights.checkpoints.zero_checkpoint import UNREADABLE, read_zero_checkpoint, why_unreadable
from openrayzer.weights.run_layout import CHECKPOINTS, EXPERIMENT
from openrayzer.weights.run_record import RUN, read_record
from openrayzer.weights.weight_folder import EXPERIMENT_FILES, WEIGHTS, read_weights

LATEST, BEST = "latest", "best"
WeightKind = Literal["auto", "ema", "raw"]
"""Weights of a checkpoint: average, weights of the last step, or automatic: the average if there is one."""
STARTED_FROM = "started_from"
"""Key under ``run`` in experiment.json: path of the initial weights; absent if they were random."""
STEPS = "steps"
"""Key under ``run`` in an exported config.json: number of optimizer steps that the weights were trained for."""
_STATES = "mp_rank_00_model_states.pt"
_PREFIX = "model."  # DeepSpeed trains a module that holds the model under this name, and perhaps an objective


def find_weights(path: str | Path, *, checkpoint: str = LATEST) -> Path:
    """Find the checkpoint or the ``.safetensors`` file to load for ``path``.

    Args:
        path: a run folder, a weight folder, a checkpoint, or a ``.safetensors`` file. In a folder, checkpoints have
            priority over ``model.safetensors``.
        checkpoint: of a run folder: ``latest`` (the newest undamaged one), ``best`` (the best by
            ``train.best_metric``), or a name such as ``step_00001000``.

    Raises:
        InputError: there are no weights, no such checkpoint, or only damaged ones.
    """
    path = Path(path)
    if checkpoint == BEST:
        checkpoint = best_name(path / CHECKPOINTS)
    if checkpoint != LATEST:
        return _named_checkpoint(path / CHECKPOINTS, checkpoint)
    if path.is_file():
        return path
    if (path / MANIFEST).is_file():
        damage = damage_of(path)
        if damage:
            raise InputError(f"{path} is a damaged checkpoint: {damage}")
        return path
    newest = newest_good(path / CHECKPOINTS)
    if newest is not None:
        return newest
    if not (path / WEIGHTS).is_file():
        reason = f"has no checkpoint yet and no {WEIGHTS}" if path.is_dir() else "does not exist"
        raise InputError(f"there are no weights in {path}: it {reason}")
    return path / WEIGHTS


def load_weights(place: Path, *, weights: WeightKind = "auto") -> dict[str, Tensor]:
    """Read the weights by the model's names, on the CPU.

    Args:
        place: the checkpoint or file that ``find_weights`` returned.
        weights: of a checkpoint: ``ema`` for the exponential moving average, ``raw`` for the weights of the last step,
            ``auto`` for the average if there is one. Ignored for a file, which holds one set of weights.

    Raises:
        InputError: they cannot be read, or there is no average.
    """
    if not place.is_dir():
        return read_weights(place)
    manifest = read_manifest(place)
    stage, world_size = int(manifest["zero_stage"]), int(manifest["world_size"])
    try:
        average = None if weights == "raw" else read_average(place, world_size=world_size)
        if weights == "ema" and average is None:
            raise InputError(f"{place} has no averaged weights: its run has train.ema_decay 0; use weights='raw'")
        if average is not None or stage == 3:
            saved = read_zero_checkpoint(place, stage=stage, world_size=world_size)
            found = saved.weights(None if average is None else average.weights)
        else:
            states: dict[str, Any] = torch.load(place / _STATES, map_location="cpu", weights_only=True)
            found = states["module"]
        return {name.removeprefix(_PREFIX): value for name, value in found.items() if name.startswith(_PREFIX)}
    except UNREADABLE as error:
        raise InputError(f"{place} cannot be read as weights: {why_unreadable(error)}") from error


def holds_average(place: Path, weights: WeightKind = "auto") -> bool:
    """Return True if ``load_weights`` reads an exponential moving average for these arguments."""
    return weights != "raw" and place.is_dir() and has_average(place)


def record_beside(place: Path) -> dict[str, Any]:
    """Read the experiment file beside the weights at ``place``; empty if there is none.

    Raises:
        InputError: the experiment file is broken.
    """
    names = (EXPERIMENT,) if place.is_dir() else EXPERIMENT_FILES
    folder = place if place.is_dir() else place.parent
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    record = read_record(file) if file else {}
    return record if isinstance(record, dict) else {}


def step_of_weights(place: Path, record: Mapping[str, Any]) -> int:
    """Return the number of optimizer steps that openrayzer trained these weights for.

    Args:
        place: the checkpoint or file that ``find_weights`` returned.
        record: the experiment file beside it; see ``record_beside``.
    """
    if place.is_dir():
        return int(read_manifest(place)["step"])
    steps = record.get(RUN, {}).get(STEPS, 0)
    return steps if isinstance(steps, int) else 0


def _named_checkpoint(checkpoints: Path, name: str) -> Path:
    damage = damage_of(checkpoints / name)
    if damage:
        known = ", ".join(sorted(found.name for found in checkpoints.glob("step_*"))) or "(none)"
        raise InputError(f"checkpoint {name!r}: {damage}; {checkpoints} has: {known}")
    return checkpoints / name
