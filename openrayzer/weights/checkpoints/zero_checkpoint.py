"""Read a DeepSpeed checkpoint by the names of the weights, for any ZeRO stage and number of ranks.

No code in the files is run. Files are memory-mapped, so that only the requested weights are read.
"""

import pickle
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.weights.checkpoints.zero_layout import Pieces, cut_each, cut_rows

WEIGHTS = "weights"
"""Key of the float32 weights in ``ZeroCheckpoint.optimized``."""
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, OSError, AttributeError)
"""Errors of ``torch.load`` and of reading its result for a file that is not a checkpoint. ``torch.load(mmap=True)``
raises a RuntimeError about mmap for a file that is not an archive."""


def why_unreadable(error: Exception) -> str:
    """Return one line for an error in ``UNREADABLE``; torch's message would advise to run code from the file."""
    if isinstance(error, pickle.UnpicklingError) or "mmap can only be used" in str(error):
        return "it is not a file of tensors, or it contains code, which is not run"
    return str(error).partition("\n")[0] or type(error).__name__


@dataclass(frozen=True)
class ZeroCheckpoint:
    """The content of a checkpoint by the names of the weights.

    Attributes:
        optimized: ``weights`` in float32, and each state that the optimizer keeps per weight, e.g. ``exp_avg``.
        counts: for each optimizer group, the states that it keeps once for all weights, e.g. ``step``.
        others: frozen weights and buffers.
        schedule: state of the learning rate schedule.
        progress: DeepSpeed's counts of steps and samples.
        shared: further names of shared weights -> the name under which they are stored.
    """

    optimized: Mapping[str, Pieces]
    counts: Sequence[Mapping[str, Any]]
    others: Mapping[str, Tensor]
    schedule: Mapping[str, Any]
    progress: Mapping[str, int]
    shared: Mapping[str, str]

    def weights(self, pieces: Pieces | None = None) -> dict[str, Tensor]:
        """Return all weights and buffers; optimized weights in float32, or from ``pieces`` if given."""
        pieces = pieces or self.optimized[WEIGHTS]
        found = {name: pieces.whole(name) for name in pieces.shapes} | dict(self.others)
        return found | {name: found[stored] for name, stored in self.shared.items()}


def read_zero_checkpoint(path: Path, *, stage: int, world_size: int) -> ZeroCheckpoint:
    """Read a checkpoint that ``damage_of`` found undamaged.

    Args:
        path: the checkpoint.
        stage: ZeRO stage of the run that wrote it.
        world_size: number of ranks that wrote it.

    Raises:
        InputError: it cannot be read.
    """
    with readable(path), _deepspeed_classes():
        return _by_name(path, stage=stage, world_size=world_size)


def check_readable(path: Path, *, stage: int, rank: int) -> None:
    """Check that the files of one rank can be opened, without reading their tensors.

    Raises:
        InputError: a file cannot be opened.
    """
    with readable(path), _deepspeed_classes():
        for name in (_model_file(rank, stage=stage), _optimizer_file(rank)):
            _read(path, name)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a file that is not a checkpoint into an InputError."""
    try:
        yield
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {why_unreadable(error)}") from error


def _by_name(path: Path, *, stage: int, world_size: int) -> ZeroCheckpoint:
    ranks = range(world_size)
    divided = [_read(path, _optimizer_file(rank))["optimizer_state_dict"] for rank in ranks]
    if stage == 3:
        models = [_read(path, _model_file(rank, stage=stage)) for rank in ranks]
        layouts = [cut_each(models[0]["param_shapes"], rank=rank, world_size=world_size) for rank in ranks]
        base, flat = "optimizer_state_dict", "fp32_flat_groups"
    else:
        models = [_read(path, _model_file(0, stage=stage))]
        held = [
            [{name: (part.start, part.numel) for name, part in group.items()} for group in one["param_slice_mappings"]]
            for one in divided
        ]
        layouts = cut_rows(held)
        base, flat = "base_optimizer_state", "single_partition_of_fp32_groups"
    shapes = {name: tuple(shape) for group in models[0]["param_shapes"] for name, shape in group.items()}
    states = [[one[base]["state"][group] for group in sorted(one[base]["state"])] for one in divided]
    optimized = {WEIGHTS: Pieces(layouts, [one[flat] for one in divided], shapes)}
    for key in _divided_keys(states[0]):
        optimized[key] = Pieces(layouts, [[group[key] for group in groups] for groups in states], shapes)
    counts = [{key: value for key, value in group.items() if key not in optimized} for group in states[0]]
    model = models[0]
    return ZeroCheckpoint(
        optimized=optimized,
        counts=counts,
        others=_others(models, shapes),
        schedule=model["lr_scheduler"],
        progress={key: model[key] for key in ("global_steps", "global_samples", "skipped_steps")},
        shared=dict(model["shared_params"] or {}),
    )


def _divided_keys(groups: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for key, value in groups[0].items() if groups else ():
        if torch.is_tensor(value) and value.ndim == 1:
            yield key


def _others(models: Sequence[Mapping[str, Any]], optimized: Container[str]) -> dict[str, Tensor]:
    """Return frozen weights, which stage 3 partitions as well, and buffers."""
    first = models[0]
    shared = first["shared_params"] or {}
    others = {name: value for name, value in first["module"].items() if name not in optimized and name not in shared}
    for name, shape in (first["frozen_param_shapes"] or {}).items():
        parts = [model["frozen_param_fragments"][name].flatten() for model in models]
        others[name] = torch.cat(parts)[: shape.numel()].reshape(shape)
    return others


def _optimizer_file(rank: int) -> str:
    return f"*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"


def _model_file(rank: int, *, stage: int) -> str:
    return f"*zero_pp_rank_{rank}_mp_rank_00_model_states.pt" if stage == 3 else "mp_rank_00_model_states.pt"


def _read(path: Path, pattern: str) -> dict[str, Any]:
    file = next(path.glob(pattern), None)
    if file is None:
        raise FileNotFoundError(f"no file {pattern} in it")
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def allow_deepspeed_classes() -> None:
    """Allow ``torch.load(weights_only=True)`` to read the few plain classes that DeepSpeed writes."""
    torch.serialization.add_safe_globals(_plain_classes())


def _deepspeed_classes() -> Any:
    return torch.serialization.safe_globals(_plain_classes())


def _plain_classes() -> list[Any]:
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]
