"""A finished or running run folder, from outside: its experiment and its model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openrayzer.composer.build import construct
from openrayzer.composer.experiment import load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.training.checkpoint import damage_of, newest_good, read_manifest
from openrayzer.training.resuming import CHECKPOINTS

_WEIGHTS = "mp_rank_00_model_states.pt"
_PREFIX = "model."  # DeepSpeed saw the model as a part of something


def load_model(path: str | Path, *, checkpoint: str = "latest") -> Model:
    """The model of a run, with its weights, in evaluation mode, on the CPU in float32.

    Args:
        path: a run folder.
        checkpoint: ``latest``, or the name of one below ``checkpoints/``, e.g. ``step_00001000``.

    Raises:
        InputError: the folder holds no run, no such checkpoint, a damaged one, or weights of another model.
    """
    folder = Path(path)
    experiment = folder / "experiment.json"
    if not experiment.is_file():
        raise InputError(f"{folder} is no run folder: it has no experiment.json")
    weights = _read_weights(_choose(folder, checkpoint))
    plan = load_experiment(experiment)
    model: Model = construct(plan.plan.arguments["model"])
    _fill(model, weights, folder)
    return model.float().eval()


def _choose(folder: Path, checkpoint: str) -> Path:
    checkpoints = folder / CHECKPOINTS
    if checkpoint == "latest":
        newest = newest_good(checkpoints)
        if newest is None:
            raise InputError(f"{folder} has no checkpoint yet")
        return newest
    chosen = checkpoints / checkpoint
    damage = damage_of(chosen)
    if damage:
        known = ", ".join(sorted(found.name for found in checkpoints.glob("step_*"))) or "(none)"
        raise InputError(f"checkpoint {checkpoint!r}: {damage}; {checkpoints} has: {known}")
    return chosen


def _read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Weights by name, read without running code from the file."""
    if read_manifest(checkpoint)["zero_stage"] == 3:
        raise InputError(
            f"{checkpoint} was written with ZeRO stage 3, so its weights lie in pieces; resume the run, or gather them "
            f"with the zero_to_fp32.py that DeepSpeed put into {checkpoint.parent}"
        )
    states: dict[str, Any] = torch.load(checkpoint / _WEIGHTS, map_location="cpu", weights_only=True)
    return {name.removeprefix(_PREFIX): value for name, value in states["module"].items()}


def _fill(model: Model, weights: dict[str, Tensor], folder: Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder}: the weights do not fit its experiment.json: {error}") from error
