"""Checkpoints that exist completely or not at all.

``checkpoints/step_00001000/`` is written as ``step_00001000.tmp``, flushed to disk, given a manifest with sizes and
checksums, read back, and only then renamed; ``latest`` names it after that. Whatever dies at whatever moment, the one
before stays good. All processes must see the same file system.
"""

import json
import logging
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from openrayzer.interfaces import InputError
from openrayzer.training.engine import Engine

LOG = logging.getLogger(__name__)
MANIFEST = "manifest.json"
EXPERIMENT = "experiment.json"
LATEST = "latest"
FORMAT = 1
_NAME = re.compile(r"step_(\d{8,})")
_CHUNK = 1 << 24
_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "inline_container", "iostream error")
"""What torch's RuntimeError says when a write fails; it drops the operating system's reason."""


def checkpoint_name(step: int) -> str:
    """``step_00001000``: names sort like numbers."""
    return f"step_{step:08d}"


def save_checkpoint(
    engine: Engine,
    folder: Path,
    *,
    state: Mapping[str, Any],
    experiment: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write one checkpoint; all processes must call this.

    Args:
        engine: weights, optimizer, schedule and step counts.
        folder: the run's ``checkpoints``.
        state: what this process needs to go on: tensors and plain values only.
        experiment: the resolved experiment and what the run was started with.
        keep: how many of the newest stay.

    Raises:
        InputError: the disk is full or cannot be written; the checkpoints before are untouched.
    """
    begin, process = time.perf_counter(), engine.process
    name = checkpoint_name(engine.steps)
    unfinished = folder / f"{name}.tmp"
    try:
        if process.is_first:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob("*.tmp"):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        process.barrier()
        engine.deepspeed.save_checkpoint(str(folder), tag=unfinished.name, save_latest=False)
        torch.save(dict(state), unfinished / _rank_file(process.rank))
        process.barrier()
        if process.is_first:
            _write(unfinished / EXPERIMENT, json.dumps(experiment, indent=2, default=str))
            _publish(unfinished, folder / name, engine)
            _prune(folder, keep=keep)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _TORCH_CANNOT_WRITE):
            raise
        reason = error if isinstance(error, OSError) else f"{shutil.disk_usage(folder).free >> 20} MiB are free there"
        shutil.rmtree(unfinished, ignore_errors=True)
        raise InputError(
            f"checkpoint {name} could not be written to {folder}: {reason}. The checkpoints before it are untouched: "
            "free some space, or make the folder writable, and start the same command again"
        ) from error
    process.barrier()
    LOG.info("checkpoint %s written in %.1f s", name, time.perf_counter() - begin)
    return folder / name


def newest_good(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder`` that is complete and undamaged; None if there never was any.

    Raises:
        InputError: there are checkpoints, but all of them are damaged.
    """
    found = sorted((path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)), reverse=True, key=_step)
    for path in found:
        damage = damage_of(path)
        if not damage:
            return path
        LOG.error("CHECKPOINT %s IS DAMAGED (%s); falling back to the one before", path, damage)
    if found:
        raise InputError(
            f"{folder}: all {len(found)} checkpoint(s) are damaged, the newest: {damage_of(found[0])}. Training does "
            "not start again from nothing unasked: restore a checkpoint, or choose another --output"
        )
    return None


def damage_of(path: Path) -> str:
    """What is wrong with a checkpoint, in a few words; empty if sizes and checksums are those of its manifest."""
    try:
        manifest = read_manifest(path)
    except InputError as error:
        return str(error)
    for name, (size, checksum) in manifest["files"].items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if _checksum(file) != checksum:
            return f"{name} has changed since it was written"
    return ""


def read_manifest(path: Path) -> dict[str, Any]:
    """Step, number of processes, ZeRO stage and files of a checkpoint.

    Raises:
        InputError: it has no readable manifest.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or not isinstance(manifest["files"], dict):
            raise ValueError(f"unknown format {manifest['format']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no readable {MANIFEST} ({error})") from error
    return manifest


def load_checkpoint(engine: Engine, path: Path) -> dict[str, Any]:
    """Fill ``engine`` from a checkpoint that ``damage_of`` found good; returns this process's ``state``.

    Raises:
        InputError: it was written by another number of processes or with another ZeRO stage, or holds something that
            only unsafe loading could read.
    """
    process, manifest = engine.process, read_manifest(path)
    if manifest["world_size"] != process.world_size:
        raise InputError(
            f"{path} was written by {manifest['world_size']} process(es), this run has {process.world_size}; "
            f"start it with {manifest['world_size']}, e.g. deepspeed --num_gpus {manifest['world_size']} ..."
        )
    if manifest["zero_stage"] != engine.stage:
        raise InputError(
            f"{path} was written with ZeRO stage {manifest['zero_stage']}, this run has stage {engine.stage}"
        )
    _load_safely(engine)
    loaded, _ = engine.deepspeed.load_checkpoint(str(path.parent), tag=path.name)
    if loaded is None:
        raise InputError(f"{path}: DeepSpeed could not load it")
    state = torch.load(path / _rank_file(process.rank), map_location="cpu", weights_only=True)
    engine.go_on_from(
        steps=manifest["step"], skipped=manifest["skipped"], skipped_in_a_row=manifest["skipped_in_a_row"]
    )
    return state


def _publish(unfinished: Path, final: Path, engine: Engine) -> None:
    """Flush, describe, read back, rename, announce."""
    files = {file.name: [file.stat().st_size, _checksum(file)] for file in sorted(unfinished.iterdir())}
    for name in files:
        _flush(unfinished / name)
    ranks = sum(name.startswith("rank_") for name in files)
    if ranks != engine.process.world_size:
        raise OSError(f"{ranks} of {engine.process.world_size} processes wrote to {unfinished}; is it a shared folder?")
    manifest = {
        "format": FORMAT,
        "step": engine.steps,
        "skipped": engine.skipped,
        "skipped_in_a_row": engine.skipped_in_a_row,
        "world_size": engine.process.world_size,
        "zero_stage": engine.stage,
        "files": files,
    }
    _write(unfinished / MANIFEST, json.dumps(manifest, indent=1))
    damage = damage_of(unfinished)
    if damage:
        raise OSError(f"read back differently than written: {damage}")
    if final.exists():
        shutil.rmtree(_put_aside(final))
    unfinished.rename(final)
    _flush(final.parent)
    announcement = final.parent / f"{LATEST}.tmp"
    _write(announcement, final.name)
    announcement.replace(final.parent / LATEST)
    _flush(final.parent)


def _prune(folder: Path, *, keep: int) -> None:
    found = sorted((path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)), key=_step)
    for path in found[:-keep]:
        shutil.rmtree(_put_aside(path))


def _put_aside(path: Path) -> Path:
    """Rename first, so that dying half way through the removal leaves no half checkpoint under a good name."""
    return path.rename(path.with_name(f"{path.name}.old.tmp"))


def _load_safely(engine: Engine) -> None:
    """Make DeepSpeed read checkpoints without running code from them."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    torch.serialization.add_safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address])

    class SafeCheckpointEngine(TorchCheckpointEngine):
        def load(self, path: str, map_location: str | Callable[..., Any] | None = None) -> Any:
            return torch.load(path, map_location=map_location, weights_only=True)

    engine.deepspeed.checkpoint_engine.__class__ = SafeCheckpointEngine


def _rank_file(rank: int) -> str:
    return f"rank_{rank:05d}.pt"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _write(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
