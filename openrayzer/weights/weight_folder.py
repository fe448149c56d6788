"""Weight folders: ``model.safetensors`` beside an experiment file.

The experiment file is ``experiment.json`` in run folders and imported folders. In exported folders it is
``config.json``, as the Hugging Face hub expects. Both write out every default, so that a model still loads the same
after defaults have changed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import listed, read_state_dict
from openrayzer.machine.writing import whole_file
from openrayzer.weights.run_layout import EXPERIMENT

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
EXPERIMENT_FILES = (EXPERIMENT, CONFIG)
"""Names of the experiment file in a weight folder; if both exist, the first one is read."""
IMPORTED = "imported"
"""Key under ``run`` in the experiment file: origin of imported weights, plain JSON such as
``{"license": "...", "source": "...", "notes": ["...", ...]}``. Runs and exports of these weights copy it."""
_FORMAT = {"format": "pt"}


def write_weights(weights: nn.Module | Mapping[str, Tensor], file: Path) -> None:
    """Write weights to a safetensors file, completely or not at all; floats become float32.

    A tensor with several names is stored once, under the first name in alphabetical order. The file's metadata maps
    the other names to it, as in safetensors' ``save_model``.

    Args:
        weights: a model or its ``state_dict()``.
        file: usually ``folder / WEIGHTS``; its folder is created.

    Raises:
        InputError: the file cannot be written; an older file stays as it was.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    stored, metadata = _stored_once(state)
    try:
        with whole_file(file) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(stored, temporary, metadata=metadata)
            temporary.chmod(mode)  # safetensors writes files that only their owner can read
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{file} could not be written: {error}; free some space, or make the folder writable"
        ) from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` file by name, on the CPU. No code from the file is run.

    Raises:
        InputError: the file is missing, truncated, or not a safetensors file.
    """
    if file.suffix != ".safetensors":
        raise InputError(
            f"{file} is not a .safetensors file, the only kind that openrayzer loads; `openrayzer import-weights` "
            "converts published weights"
        )
    return read_state_dict(file, remedy="write or download it again")


def fill(model: nn.Module, weights: Mapping[str, Tensor], *, source: Path) -> None:
    """Set every weight of ``model``.

    Args:
        model: keeps its dtype and device.
        weights: by the names in the model's ``state_dict()``. A weight with several names needs only one of them.
        source: path of the weights, for messages.

    Raises:
        InputError: weights are missing, unknown, of another shape, or not finite; the message lists them and the
            model is not changed.
    """
    own = model.state_dict()
    given = dict(weights)
    differing = _supply_shared(own, given)
    missing = [f"{name} is missing" for name in own if name not in given]
    unknown = [f"{name} is unknown to the model" for name in sorted(given.keys() - own.keys())]
    unfit = [problem for name in own if name in given and (problem := _unfit(given[name], own[name].shape, name))]
    problems = [listed(kind) for kind in (missing, unknown, unfit, differing) if kind]
    if problems:
        raise InputError(f"the weights in {source} do not fit the model: {'; '.join(problems)}")
    model.load_state_dict(given)


def find_experiment(folder: Path) -> Path:
    """Return the path of the experiment file in a run folder or weight folder.

    Raises:
        InputError: there is no experiment file.
    """
    for name in EXPERIMENT_FILES:
        if (folder / name).is_file():
            return folder / name
    missing = "does not exist" if not folder.exists() else "is a file" if folder.is_file() else ""
    reason = missing or f"has neither {' nor '.join(EXPERIMENT_FILES)}"
    raise InputError(f"{folder} is neither a run folder nor a weight folder: it {reason}")


def origin_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the origin of imported weights from the content of their experiment file; empty for other weights."""
    run = record.get("run")
    imported = run.get(IMPORTED) if isinstance(run, Mapping) else None
    return json.loads(json.dumps(imported)) if isinstance(imported, Mapping) else {}


def _unfit(value: Tensor, shape: torch.Size, name: str) -> str:
    if value.shape != shape:
        return f"{name} has shape {tuple(value.shape)} instead of {tuple(shape)}"
    return "" if value.isfinite().all() else f"{name} has values that are not finite"


def _stored_once(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors on the CPU that share no memory, with floats as float32, and the metadata of the file."""
    stored: dict[str, Tensor] = {}
    metadata = dict(_FORMAT)
    for names in _same(state):
        first, *others = names
        value = state[first].detach()
        value = value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous()
        if value.untyped_storage().nbytes() != value.nbytes:  # a view into a larger tensor
            value = value.clone()
        stored[first] = value
        metadata |= dict.fromkeys(others, first)
    seen: set[int] = set()
    for name, value in stored.items():
        if value.numel() and value.data_ptr() in seen:  # a view of the same memory with another shape
            stored[name] = value.clone()
        seen.add(value.data_ptr())
    return stored, metadata


def _same(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Group the names of the same tensor; names are sorted within and between groups."""
    groups: dict[Any, list[str]] = {}
    for name in sorted(state):
        value = state[name]
        place = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        groups.setdefault(place if value.numel() else name, []).append(name)
    return list(groups.values())


def _supply_shared(own: Mapping[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Add missing names of shared tensors to ``given``; return a problem for each name with a different value."""
    problems = []
    for names in _same(own):
        known = [name for name in names if name in given]
        for name in names if known else ():
            value = given.setdefault(name, given[known[0]])
            if not torch.equal(value, given[known[0]]):
                problems.append(f"{name} and {known[0]} are one weight of the model but differ here")
    return problems
