"""Where weights can be taken from: a run folder, one of its checkpoints, a weight folder, a file.

Runs no code from any of them. How they are chosen when a run starts, and what is remembered of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.weights.checkpoints.average import read_average
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
"""Of a checkpoint: averaged over the steps, of the last step, or averaged where there is an average."""
STARTED_FROM = "started_from"
"""Key under ``run`` in experiment.json: the weights that a run began with, if it did not begin with random ones."""
STEPS = "steps"
"""Key under ``run`` in an exported config.json: optimizer steps that its weights were trained for."""
_STATES = "mp_rank_00_model_states.pt"
_PREFIX = "model."  # DeepSpeed saw the model as a part of something


def find_weights(path: Path, *, checkpoint: str = LATEST) -> Path:
    """The checkpoint or the ``.safetensors`` file that a path stands for. Checkpoints come before model.safetensors.

    Args:
        path: a run folder, a weight folder, a checkpoint, or a ``.safetensors`` file.
        checkpoint: of a run folder: ``latest`` for the newest good one, ``best`` for that of ``train.best_metric``, or
            a name such as ``step_00001000``.

    Raises:
        InputError: there are no weights, no such checkpoint, or only damaged ones.
    """
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
        what = f"has no checkpoint yet and no {WEIGHTS}" if path.is_dir() else "does not exist"
        raise InputError(f"there are no weights in {path}: it {what}")
    return path / WEIGHTS


def load_weights(place: Path, *, weights: WeightKind = "auto") -> dict[str, Tensor]:
    """The weights of what ``find_weights`` found, by the model's names, on the CPU.

    Args:
        place: a checkpoint or a file.
        weights: of a checkpoint: ``ema`` takes the average over the steps, ``raw`` the weights of its last step, and
            ``auto`` the average where there is one. A file holds one kind only.

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
            raise InputError(f"{place} holds no averaged weights: its run has train.ema_decay 0; take weights='raw'")
        if average is not None or stage == 3:
            found = read_zero_checkpoint(place, stage=stage, world_size=world_size).weights(average)
        else:
            states: dict[str, Any] = torch.load(place / _STATES, map_location="cpu", weights_only=True)
            found = states["module"]
        return {name.removeprefix(_PREFIX): value for name, value in found.items()}
    except UNREADABLE as error:
        raise InputError(f"{place} cannot be read as weights: {why_unreadable(error)}") from error


def holds_average(place: Path, weights: WeightKind = "auto") -> bool:
    """Whether what ``load_weights`` takes from there is an average over the steps."""
    if weights == "raw" or not place.is_dir():
        return False
    return read_average(place, world_size=int(read_manifest(place)["world_size"])) is not None


def record_beside(place: Path) -> dict[str, Any]:
    """The experiment of the weights that ``find_weights`` found; empty for a file that lies alone.

    Raises:
        InputError: it is broken.
    """
    names = (EXPERIMENT,) if place.is_dir() else EXPERIMENT_FILES
    folder = place if place.is_dir() else place.parent
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    record = read_record(file) if file else {}
    return record if isinstance(record, dict) else {}


def step_of_weights(place: Path, record: Mapping[str, Any]) -> int:
    """Optimizer steps that the weights ``find_weights`` found were trained for here; ``record`` lies beside them."""
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
