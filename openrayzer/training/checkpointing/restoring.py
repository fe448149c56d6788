"""Restoring a checkpoint, also one of another number of processes or another ZeRO stage."""

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import Process
from openrayzer.training.checkpointing.rank_state import merge_states
from openrayzer.training.engine import Engine
from openrayzer.weights.checkpoints.manifest import rank_file, read_manifest
from openrayzer.weights.checkpoints.zero_checkpoint import (
    allow_deepspeed_classes,
    check_readable,
    read_zero_checkpoint,
    readable,
    why_unreadable,
)

LOG = logging.getLogger(__name__)


def load_checkpoint(engine: Engine, path: Path) -> dict[str, Any]:
    """Fill ``engine`` from an undamaged checkpoint.

    With the same number of processes and the same ZeRO stage the state is restored to the bit. Otherwise weights and
    optimizer state are divided again, which changes no number, and the states of the processes are merged.

    Returns:
        The state of this process, from ``rank_state``.

    Raises:
        InputError: on all processes. The checkpoint belongs to another model, a process cannot read its part, or a file
            holds objects that only unsafe loading could read.
    """
    process = engine.process
    manifest = process.by_first(lambda: read_manifest(path))
    stage, world_size = int(manifest["zero_stage"]), int(manifest["world_size"])
    clip_size = int(manifest.get("sequence_parallel", 1))
    if (stage, world_size) == (engine.stage, process.world_size):
        process.by_all(
            lambda: check_readable(path, stage=stage, rank=process.rank)
        )  # an error inside DeepSpeed's loading would leave the other processes waiting
        _load_safely(engine)
        with _explained(path):
            loaded, _ = engine.deepspeed.load_checkpoint(str(path.parent), tag=path.name)
        if loaded is None:
            raise InputError(f"{path}: DeepSpeed could not load it")
    else:
        engine.partition.fill(process.by_all(lambda: read_zero_checkpoint(path, stage=stage, world_size=world_size)))
        if process.is_first:
            LOG.info(
                "%s was written by %d process(es) with ZeRO stage %d: divided again for %d with stage %d",
                path.name, world_size, stage, process.world_size, engine.stage,
            )  # fmt: skip
            if process.clip_numbers > world_size // clip_size:
                first = world_size // clip_size * process.clip_size
                LOG.info("ranks from %d on begin with new random generators", first)
    state = process.by_all(lambda: _read_own_state(path, process, world_size=world_size, clip_size=clip_size))
    if not process.by_all(lambda: _load_average(engine, path, world_size=world_size)):
        LOG.warning("%s holds no averaged weights: the average begins with the weights", path.name)
    engine.go_on_from(
        steps=manifest["step"], skipped=manifest["skipped"], skipped_in_a_row=manifest["skipped_in_a_row"]
    )
    return state


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of DeepSpeed's loading into InputErrors: files with code, or a model that has changed since."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {why_unreadable(error)}") from error
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        raise InputError(f"{path} belongs to another model than the code builds now: {error}") from error


def _load_safely(engine: Engine) -> None:
    """Have DeepSpeed read checkpoints without running code from them."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    class SafeCheckpointEngine(TorchCheckpointEngine):
        def load(self, path: str, map_location: str | Callable[..., Any] | None = None) -> Any:
            return torch.load(path, map_location=map_location, weights_only=True)

    allow_deepspeed_classes()
    engine.deepspeed.checkpoint_engine.__class__ = SafeCheckpointEngine


def _read_own_state(path: Path, process: Process, *, world_size: int, clip_size: int) -> dict[str, Any]:
    """The state of this process. Processes that share their clips have the same random generators."""
    if (world_size, clip_size) == (process.world_size, process.clip_size):
        return _read_state(path, process.rank)
    states = [_read_state(path, rank) for rank in range(world_size)]
    return merge_states(states, rank=process.rank, random_from=process.clip_number * clip_size)


def _read_state(path: Path, rank: int) -> dict[str, Any]:
    with readable(path / rank_file(rank)):
        return torch.load(path / rank_file(rank), map_location="cpu", weights_only=True)


def _load_average(engine: Engine, path: Path, *, world_size: int) -> bool:
    """Load the average, if the engine has one; False if the checkpoint lacks it."""
    with readable(path):
        return engine.average is None or engine.average.load(path, world_size=world_size)
