"""experiment.json of a run folder: what was run, with what, and whether a resume is the same run."""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast, get_type_hints

from openrayzer.interfaces import InputError
from openrayzer.settings import Experiment

RUN = "run"
"""Key of what is not part of the experiment."""
MAY_CHANGE = (
    "deepspeed", "description", "logging", "plugins", "run", "data.prefetch", "data.workers", "train.accumulation",
    "train.bad_steps.dump", "train.best_metric", "train.best_mode", "train.checkpoint_every", "train.evaluate_every",
    "train.initial_weights", "train.keep_checkpoints", "train.log_every", "train.sample_every",
    "train.statistics_every", "train.steps", "train.watchdog_minutes",
)  # fmt: skip
"""What a resumed run may set differently. The DeepSpeed file is compared by content; initial weights are in the
checkpoint long since, wherever their folder has gone; accumulation may follow the number of processes."""


def run_record(resolved: Mapping[str, Any], *, deepspeed: Mapping[str, Any], world_size: int) -> dict[str, Any]:
    """The resolved experiment with versions, commit and size of the run beside it."""
    packages = ("openrayzer", "torch", "deepspeed", "numpy")
    versions = {"python": platform.python_version()} | {name: _version(name) for name in packages}
    facts = {"world_size": world_size, "git_commit": _commit(), "versions": versions, "deepspeed": dict(deepspeed)}
    return {**resolved, RUN: facts}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a resume must not change and does, one line each: ``train.batch_size: 8 -> 16``.

    A setting that there was not yet when ``before`` was written had what is now its default.
    """
    old, new = _relevant(before), _relevant(now)
    old = {key: value for key, value in _defaults().items() if key in new} | old
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {json.dumps(old.get(key))} -> {json.dumps(new.get(key))}" for key in keys]


def read_record(path: Path) -> dict[str, Any]:
    """An experiment.json.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _relevant(record: Mapping[str, Any]) -> dict[str, Any]:
    record = json.loads(json.dumps(record, default=str))  # tuples and paths as they come back from a file
    precision = {key: record.get(RUN, {}).get("deepspeed", {}).get(key) for key in ("bf16", "torch_autocast")}
    flat = _flat({key: value for key, value in record.items() if key != RUN})
    kept = {key: value for key, value in flat.items() if not _is_free(key)}
    return kept | _flat({"deepspeed": precision})


@cache
def _defaults() -> dict[str, Any]:
    """The defaults of the sections' plain settings, as they stand in an experiment.json."""
    return json.loads(json.dumps(_flat(_defaults_of(Experiment)), default=str))


def _defaults_of(section: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    types = get_type_hints(section)
    for one in fields(section):
        if is_dataclass(kind := types[one.name]):
            found[one.name] = _defaults_of(cast("type", kind))
        elif one.default is not MISSING:
            found[one.name] = one.default
    return found


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith((f"{free}.", f"{free}[")) for free in MAY_CHANGE)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = [_flat(item, f"{path}.{key}" if path else key) for key, item in value.items()]
    elif isinstance(value, list) and value:
        parts = [_flat(item, f"{path}[{place}]") for place, item in enumerate(value)]
    else:
        return {path: value}
    return {key: item for part in parts for key, item in part.items()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _commit() -> str | None:
    """Commit of the clone this package lies in, with ``+changes`` if files differ from it; None outside of git."""
    clone = str(Path(__file__).parents[2])
    try:
        commit = _git(clone, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(clone, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(clone: str, *words: str) -> str:
    command = ["git", "-C", clone, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
