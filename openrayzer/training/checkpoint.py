"""Checkpoints that exist completely or not at all.

``checkpoints/step_00001000/`` is written as ``step_00001000.tmp``, flushed to disk, given a manifest with sizes and
checksums, read back from there, and only then renamed; ``latest`` names it after that. Whatever dies at whatever
moment, the one before stays good. All processes must see the same file system.
"""

import json
import logging
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from openrayzer.interfaces import InputError
from openrayzer.training.background import Background
from openrayzer.training.best_checkpoint import METRICS, Best
from openrayzer.training.engine import Engine
from openrayzer.training.rank_state import merge_states
from openrayzer.training.zero_checkpoint import allow_deepspeed_classes, read_zero_checkpoint

LOG = logging.getLogger(__name__)
MANIFEST = "manifest.json"
EXPERIMENT = "experiment.json"
LATEST, BEST = "latest", "best"
"""Files beside the checkpoints that name one of them."""
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
    background: Background,
    best: Best | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Write one checkpoint; all processes must call this.

    When it returns, all files are written as far as the operating system is concerned, and training may go on; they are
    flushed, read back, checked and announced in the background.

    Args:
        engine: weights, optimizer, schedule and step counts.
        folder: the run's ``checkpoints``.
        state: what this process needs to go on: tensors and plain values only.
        experiment: the resolved experiment and what the run was started with.
        keep: how many of the newest stay.
        background: of this process; what goes wrong there is an InputError when it is waited for.
        best: what is best; the best stays, too.
        metrics: what was measured with these very weights, if anything.

    Raises:
        InputError: the disk is full or cannot be written, now or for the checkpoint before; those before are untouched.
    """
    begin, process = time.perf_counter(), engine.process
    process.by_first(background.wait)
    name = checkpoint_name(engine.steps)
    unfinished = folder / f"{name}.tmp"
    with _explained(unfinished):
        if process.is_first:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob("*.tmp"):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        process.barrier()
        with _without_checksums_of_torch():
            engine.deepspeed.save_checkpoint(str(folder), tag=unfinished.name, save_latest=False)
            torch.save(dict(state), unfinished / _rank_file(process.rank))
            if engine.average is not None:
                engine.average.save(unfinished, rank=process.rank)
    process.barrier()
    if not process.is_first:
        return
    manifest = {
        "format": FORMAT,
        "step": engine.steps,
        "skipped": engine.skipped,
        "skipped_in_a_row": engine.skipped_in_a_row,
        "world_size": process.world_size,
        "zero_stage": engine.stage,
        METRICS: dict(metrics or {}),
    }
    stall = time.perf_counter() - begin

    def finish() -> None:
        with _explained(unfinished):
            _write(unfinished / EXPERIMENT, json.dumps(experiment, indent=2, default=str))
            _publish(unfinished, folder / name, manifest)
            _prune(folder, keep=keep, best=best)
        seconds = time.perf_counter() - begin
        LOG.info("checkpoint %s written in %.1f s, for %.1f s of which training waited", name, seconds, stall)

    background.begin(finish)


@contextmanager
def _explained(unfinished: Path) -> Iterator[None]:
    """Turn what a full disk raises into an InputError, and remove what could not be finished."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _TORCH_CANNOT_WRITE):
            raise
        folder, name = unfinished.parent, unfinished.stem
        reason = error if isinstance(error, OSError) else f"{shutil.disk_usage(folder).free >> 20} MiB are free there"
        shutil.rmtree(unfinished, ignore_errors=True)
        raise InputError(
            f"checkpoint {name} could not be written to {folder}: {reason}. The checkpoints before it are untouched: "
            "free some space, or make the folder writable, and start the same command again"
        ) from error


@contextmanager
def _without_checksums_of_torch() -> Iterator[None]:
    """The manifest has checksums of whole files; torch would compute its own for every tensor on top."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def newest_good(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder`` that is complete and undamaged; None if there never was any.

    Raises:
        InputError: there are checkpoints, but all of them are damaged.
    """
    found = sorted(_all(folder), reverse=True, key=_step)
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


def manifests(folder: Path) -> dict[Path, dict[str, Any]]:
    """The manifests of all checkpoints in ``folder`` that have a readable one."""
    found = {}
    for path in _all(folder):
        with suppress(InputError):
            found[path] = read_manifest(path)
    return found


def best_name(folder: Path) -> str:
    """Name of the best checkpoint in ``folder``.

    Raises:
        InputError: none was chosen.
    """
    try:
        return (folder / BEST).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            f"{folder} has no best checkpoint; set train.best_metric, e.g. to psnr, to have one kept"
        ) from error


def load_checkpoint(engine: Engine, path: Path) -> dict[str, Any]:
    """Fill ``engine`` from a checkpoint that ``damage_of`` found good; returns this process's ``state``.

    Written by as many processes with the same ZeRO stage, everything is as it was to the bit. Otherwise weights and
    optimizer are divided anew, which changes no number, and ``state`` is merged from those of all processes.

    Raises:
        InputError: it is of another model, or holds something that only unsafe loading could read.
    """
    process, manifest = engine.process, read_manifest(path)
    stage, world_size = int(manifest["zero_stage"]), int(manifest["world_size"])
    allow_deepspeed_classes()
    if (stage, world_size) == (engine.stage, process.world_size):
        _load_safely(engine)
        loaded, _ = engine.deepspeed.load_checkpoint(str(path.parent), tag=path.name)
        if loaded is None:
            raise InputError(f"{path}: DeepSpeed could not load it")
    else:
        engine.partition.fill(read_zero_checkpoint(path, stage=stage, world_size=world_size))
        if process.is_first:
            LOG.info(
                "%s was written by %d process(es) with ZeRO stage %d: divided anew for %d with stage %d",
                path.name, world_size, stage, process.world_size, engine.stage,
            )  # fmt: skip
    if world_size == process.world_size:
        state = _read_state(path, process.rank)
    else:
        states = [_read_state(path, rank) for rank in range(world_size)]
        state = merge_states(states, rank=process.rank)
    if engine.average is not None and not engine.average.load(path, world_size=world_size):
        LOG.warning("%s holds no averaged weights: the average begins with its weights", path.name)
    engine.go_on_from(
        steps=manifest["step"], skipped=manifest["skipped"], skipped_in_a_row=manifest["skipped_in_a_row"]
    )
    return state


def _publish(unfinished: Path, final: Path, manifest: Mapping[str, Any]) -> None:
    """Describe, flush, read back, rename, announce."""
    files = {file.name: [file.stat().st_size, _checksum(file)] for file in sorted(unfinished.iterdir())}
    for name in files:
        _flush(unfinished / name)
    ranks, expected = sum(name.startswith("rank_") for name in files), manifest["world_size"]
    if ranks != expected:
        raise OSError(f"{ranks} of {expected} processes wrote to {unfinished}; is it a shared folder?")
    manifest = {**manifest, "files": files}
    _write(unfinished / MANIFEST, json.dumps(manifest, indent=1))
    damage = damage_of(unfinished)
    if damage:
        raise OSError(f"read back differently than written: {damage}")
    if final.exists():
        shutil.rmtree(_put_aside(final))
    unfinished.rename(final)
    _flush(final.parent)
    _announce(final.parent / LATEST, final.name)


def _announce(file: Path, name: str) -> None:
    unfinished = file.with_name(f"{file.name}.tmp")
    _write(unfinished, name)
    unfinished.replace(file)
    _flush(file.parent)


def _prune(folder: Path, *, keep: int, best: Best | None) -> None:
    """Remove all but the newest and the best; what cannot be read is no best one."""
    found = manifests(folder)
    chosen = best.among(found) if best else None
    if chosen is not None:
        _announce(folder / BEST, chosen.name)
    for path in sorted(_all(folder), key=_step)[:-keep]:
        if path != chosen:
            shutil.rmtree(_put_aside(path))


def _put_aside(path: Path) -> Path:
    """Rename first, so that dying half way through the removal leaves no half checkpoint under a good name."""
    return path.rename(path.with_name(f"{path.name}.old.tmp"))


def _load_safely(engine: Engine) -> None:
    """Make DeepSpeed read checkpoints without running code from them."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    class SafeCheckpointEngine(TorchCheckpointEngine):
        def load(self, path: str, map_location: str | Callable[..., Any] | None = None) -> Any:
            return torch.load(path, map_location=map_location, weights_only=True)

    engine.deepspeed.checkpoint_engine.__class__ = SafeCheckpointEngine


def _read_state(path: Path, rank: int) -> dict[str, Any]:
    return torch.load(path / _rank_file(rank), map_location="cpu", weights_only=True)


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("step_*") if _NAME.fullmatch(path.name)]


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
    """To the disk, and out of memory, so that what is read next comes from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
