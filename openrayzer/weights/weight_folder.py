"""Weight folders, the form in which weights travel: ``model.safetensors`` beside an experiment file.

The experiment file is ``experiment.json`` in a run folder and in an imported one, ``config.json`` in an exported one,
as the Hugging Face hub expects it. Either is complete: every default is written out, so that what is loaded in years
is what was written today.
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
"""What an experiment file is called in a weight folder; where both are, the first counts."""
IMPORTED = "imported"
"""Key under ``run`` in the experiment file: what an import says of its origin, kept in every run and export that starts
from these weights. ``{"license": "...", "source": "...", "notes": ["...", ...]}`` and whatever else is plain JSON."""
_FORMAT = {"format": "pt"}


def write_weights(weights: nn.Module | Mapping[str, Tensor], file: Path) -> None:
    """Write weights as float32 in safetensors form, completely or not at all; ``fill`` takes them back.

    A tensor under several names is stored once, under the first of them; the others stand in the file's metadata, as
    safetensors' own ``save_model`` does it. Integers keep their type.

    Args:
        weights: a model, or what its ``state_dict()`` returns.
        file: usually ``folder / WEIGHTS``; its folder is created.

    Raises:
        InputError: it cannot be written; what was there stays.
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
    """The tensors of a ``.safetensors`` file by name, on the CPU; runs no code from it.

    Raises:
        InputError: missing, truncated, or something else.
    """
    if file.suffix != ".safetensors":
        raise InputError(f"{file} is no .safetensors file, the only kind of file that weights are taken from")
    return read_state_dict(file, remedy="write or download it again")


def fill(model: nn.Module, weights: Mapping[str, Tensor], *, source: Path) -> None:
    """Set every weight of ``model``. A weight that the model has under several names may be given under one of them.

    Args:
        model: keeps its dtype and device.
        weights: by the model's own names.
        source: where they come from, for messages.

    Raises:
        InputError: lists names that are missing, unknown, of another shape, or not finite; nothing is changed then.
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
    """The experiment file of a run folder or weight folder.

    Raises:
        InputError: it has none.
    """
    for name in EXPERIMENT_FILES:
        if (folder / name).is_file():
            return folder / name
    what = "does not exist" if not folder.exists() else "is a file" if folder.is_file() else ""
    reason = what or f"has neither {' nor '.join(EXPERIMENT_FILES)}"
    raise InputError(f"{folder} is no run folder and no folder of weights: it {reason}")


def origin_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the import said of the weights that an experiment file belongs to; empty if they were not imported."""
    run = record.get("run")
    imported = run.get(IMPORTED) if isinstance(run, Mapping) else None
    return json.loads(json.dumps(imported)) if isinstance(imported, Mapping) else {}


def _unfit(value: Tensor, shape: torch.Size, name: str) -> str:
    if value.shape != shape:
        return f"{name} has shape {tuple(value.shape)} instead of {tuple(shape)}"
    return "" if value.isfinite().all() else f"{name} has values that are not finite"


def _stored_once(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that share no memory, in float32 on the CPU, and the metadata of the file."""
    stored: dict[str, Tensor] = {}
    metadata = dict(_FORMAT)
    for names in _same(state):
        first, *others = names
        value = state[first].detach()
        value = value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous()
        if value.untyped_storage().nbytes() != value.nbytes:  # a part of something larger
            value = value.clone()
        stored[first] = value
        metadata |= dict.fromkeys(others, first)
    seen: set[int] = set()
    for name, value in stored.items():
        if value.numel() and value.data_ptr() in seen:  # the same numbers in another shape
            stored[name] = value.clone()
        seen.add(value.data_ptr())
    return stored, metadata


def _same(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Names in groups that stand for one tensor each, sorted."""
    groups: dict[Any, list[str]] = {}
    for name in sorted(state):
        value = state[name]
        place = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        groups.setdefault(place if value.numel() else name, []).append(name)
    return list(groups.values())


def _supply_shared(own: Mapping[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Give every name of a shared tensor the value that one of them has; returns contradictions."""
    problems = []
    for names in _same(own):
        known = [name for name in names if name in given]
        for name in names if known else ():
            value = given.setdefault(name, given[known[0]])
            if not torch.equal(value, given[known[0]]):
                problems.append(f"{name} and {known[0]} are one weight of the model and differ here")
    return problems
