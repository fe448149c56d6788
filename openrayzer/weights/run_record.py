"""experiment.json of a run folder: write its facts about the run, and compare the experiments of two runs."""

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
"""Key of the facts about the run, which are not part of the experiment."""
MAY_CHANGE = (
    "deepspeed", "description", "logging", "plugins", "run", "data.cache", "data.prefetch", "data.workers",
    "train.accumulation", "train.bad_steps.dump", "train.best_metric", "train.best_mode", "train.checkpoint_every",
    "train.evaluate_every", "train.initial_weights", "train.keep_checkpoints", "train.log_every", "train.sample_every",
    "train.sequence_parallel", "train.statistics_every", "train.steps", "train.watchdog_minutes",
)  # fmt: skip
"""Settings that a resumed run may change. The path of the DeepSpeed file may change, because ``differences`` compares
its precision by content. The cache of frames may change, because it changes no pixel. The initial weights may change,
because the checkpoint holds the weights. The accumulation may change with the number of ranks, and so may the number of
ranks that share a clip."""


def run_record(resolved: Mapping[str, Any], *, deepspeed: Mapping[str, Any], world_size: int) -> dict[str, Any]:
    """Return the resolved experiment, with versions, git commit and number of ranks under ``run``.

    Args:
        resolved: the experiment with every default written out.
        deepspeed: content of the DeepSpeed file.
        world_size: number of ranks.
    """
    packages = ("openrayzer", "torch", "deepspeed", "numpy")
    versions = {"python": platform.python_version()} | {name: _version(name) for name in packages}
    facts = {"world_size": world_size, "git_commit": _commit(), "versions": versions, "deepspeed": dict(deepspeed)}
    return {**resolved, RUN: facts}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the changes that a resume does not allow, one line each: ``train.batch_size: 8 -> 16``.

    Args:
        before: content of experiment.json of the run to resume. A setting that did not exist then has the default value
            of today.
        now: the same for the resumed run.
    """
    old, new = _relevant(before), _relevant(now)
    old = {key: value for key, value in _defaults().items() if key in new} | old
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {json.dumps(old.get(key))} -> {json.dumps(new.get(key))}" for key in keys]


def read_record(path: Path) -> dict[str, Any]:
    """Read an experiment.json.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _relevant(record: Mapping[str, Any]) -> dict[str, Any]:
    record = json.loads(json.dumps(record, default=str))  # tuples become lists, paths strings, as in a file
    precision = {key: record.get(RUN, {}).get("deepspeed", {}).get(key) for key in ("bf16", "torch_autocast")}
    flat = _flat({key: value for key, value in record.items() if key != RUN})
    kept = {key: value for key, value in flat.items() if not _is_free(key)}
    return kept | _flat({"deepspeed": precision})


@cache
def _defaults() -> dict[str, Any]:
    """Defaults of all settings that are not components, as in an experiment.json."""
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
    """Git commit of this package, with ``+changes`` if files were changed; None outside of a clone."""
    clone = str(Path(__file__).parents[2])
    if not Path(clone, ".git").exists():  # an installed package may lie inside the clone of another project
        return None
    try:
        commit = _git(clone, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(clone, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(clone: str, *words: str) -> str:
    command = ["git", "-C", clone, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
