"""Going on from a checkpoint, whatever processes and ZeRO stage wrote it."""

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
    look_into,
    read_zero_checkpoint,
    readable,
    why_unreadable,
)

LOG = logging.getLogger(__name__)


def load_checkpoint(engine: Engine, path: Path) -> dict[str, Any]:
    """Fill ``engine`` from a checkpoint that ``damage_of`` found good; returns this process's ``state``.

    Written by as many processes with the same ZeRO stage, everything is as it was to the bit. Otherwise weights and
    optimizer are divided anew, which changes no number, and ``state`` is merged from those of all processes.

    Raises:
        InputError: on all processes: it is of another model, or one of them cannot read its part, or that holds
            something which only unsafe loading could read.
    """
    process = engine.process
    manifest = process.by_first(lambda: read_manifest(path))
    stage, world_size = int(manifest["zero_stage"]), int(manifest["world_size"])
    if (stage, world_size) == (engine.stage, process.world_size):
        process.by_all(
            lambda: look_into(path, stage=stage, rank=process.rank)
        )  # DeepSpeed's loading is no time to fail
        _load_safely(engine)
        with _explained(path):
            loaded, _ = engine.deepspeed.load_checkpoint(str(path.parent), tag=path.name)
        if loaded is None:
            raise InputError(f"{path}: DeepSpeed could not load it")
    else:
        engine.partition.fill(process.by_all(lambda: read_zero_checkpoint(path, stage=stage, world_size=world_size)))
        if process.is_first:
            LOG.info(
                "%s was written by %d process(es) with ZeRO stage %d: divided anew for %d with stage %d",
                path.name, world_size, stage, process.world_size, engine.stage,
            )  # fmt: skip
            if process.world_size > world_size:
                LOG.info("ranks from %d on begin with new random generators: there were none before", world_size)
    state = process.by_all(lambda: _read_own_state(path, process, world_size=world_size))
    if not process.by_all(lambda: _load_average(engine, path, world_size=world_size)):
        LOG.warning("%s holds no averaged weights: the average begins with its weights", path.name)
    engine.go_on_from(
        steps=manifest["step"], skipped=manifest["skipped"], skipped_in_a_row=manifest["skipped_in_a_row"]
    )
    return state


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """An InputError for a model that has changed since, as where its code was edited, and for files with code."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {why_unreadable(error)}") from error
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        raise InputError(f"{path} is of another model than the code makes now: {error}") from error


def _load_safely(engine: Engine) -> None:
    """Make DeepSpeed read checkpoints without running code from them."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    class SafeCheckpointEngine(TorchCheckpointEngine):
        def load(self, path: str, map_location: str | Callable[..., Any] | None = None) -> Any:
            return torch.load(path, map_location=map_location, weights_only=True)

    allow_deepspeed_classes()
    engine.deepspeed.checkpoint_engine.__class__ = SafeCheckpointEngine


def _read_own_state(path: Path, process: Process, *, world_size: int) -> dict[str, Any]:
    if world_size == process.world_size:
        return _read_state(path, process.rank)
    return merge_states([_read_state(path, rank) for rank in range(world_size)], rank=process.rank)


def _read_state(path: Path, rank: int) -> dict[str, Any]:
    with readable(path / rank_file(rank)):
        return torch.load(path / rank_file(rank), map_location="cpu", weights_only=True)


def _load_average(engine: Engine, path: Path, *, world_size: int) -> bool:
    """Whether all is there that the engine wants."""
    with readable(path):
        return engine.average is None or engine.average.load(path, world_size=world_size)
