"""Export weights to a folder with model.safetensors, config.json and README.md."""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.interfaces import InputError
from openrayzer.machine.progress import stages_of
from openrayzer.machine.writing import refuse_filled, whole_folder
from openrayzer.settings import current_names
from openrayzer.weights.export.model_card import Facts, model_card
from openrayzer.weights.finding import (
    LATEST,
    STARTED_FROM,
    STEPS,
    WeightKind,
    find_weights,
    holds_average,
    record_beside,
    step_of_weights,
)
from openrayzer.weights.loading import open_model
from openrayzer.weights.run_layout import CHECKPOINTS, METRICS
from openrayzer.weights.run_record import RUN
from openrayzer.weights.weight_folder import CONFIG, IMPORTED, WEIGHTS, origin_of, write_weights

README = "README.md"
_KEPT = (IMPORTED, "git_commit", "versions", "world_size")
_DS_CONFIGS, _DEFAULT_DEEPSPEED = "ds_configs", "ds_configs/zero2.json"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        name: ``owner/name`` in the model card; ``owner`` is a placeholder if no owner was given.
        num_weights: number of weights in the model.
        steps: number of optimizer steps that openrayzer trained them for.
        notes: remarks for the user before publishing, one sentence each.
    """

    name: str
    num_weights: int
    steps: int
    notes: tuple[str, ...]


def export_weights(
    run: str | Path,
    output: str | Path,
    *,
    checkpoint: str = LATEST,
    weights: WeightKind = "auto",
    license: str | None = None,
    name: str | None = None,
) -> Exported:
    """Write the weights of a run to a folder that is complete for use, training and publication.

    The folder includes plugins that are files. It leaves out settings of this machine or user: loggers, DeepSpeed files
    outside of ``ds_configs/`` and the path of initial weights. Data roots stay as they were written.

    Args:
        run: a run folder, an imported folder, or another weight folder.
        output: the folder to write; must not exist or be empty.
        checkpoint: ``latest``, ``best``, or the name of a checkpoint, e.g. ``step_00001000``.
        weights: ``ema`` for the exponential moving average, ``raw`` for the weights of the last step, ``auto`` for the
            average if the checkpoint has one.
        license: identifier on the Hugging Face hub, e.g. ``apache-2.0``. Default: the licence of imported weights.
        name: ``name`` or ``owner/name`` on the hub. Default: the name of the folder.

    Raises:
        InputError: there are no such weights, or the folder is not empty or cannot be written; nothing is written then.
    """
    run, output = Path(run), Path(output)
    name = name or output.resolve().name
    _check(output, license=license, name=name)
    place = find_weights(run, checkpoint=checkpoint)
    with stages_of("export", total=2) as begin:
        begin(f"reading {place.name}")
        facts, record = _facts(place, weights=weights, license=license, name=name), record_beside(place)
        begin(f"writing {WEIGHTS}")
        with whole_folder(output) as unfinished:
            write_weights(facts.model, unfinished / WEIGHTS)
            plugins = _copy_plugins(facts.resolved.get("plugins", []), unfinished)
            config = _portable(facts.resolved, record, facts) | plugins
            (unfinished / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (unfinished / README).write_text(model_card(facts), encoding="utf-8")
    return Exported(facts.name, facts.num_weights, facts.steps, _notes(facts, given=license))


def card_of(run: Path) -> str:
    """The model card of the latest checkpoint of a run folder.

    Raises:
        InputError: there are no weights, or they cannot be read.
    """
    return model_card(
        _facts(find_weights(run, checkpoint=LATEST), weights="auto", license=None, name=run.resolve().name)
    )


def _facts(place: Path, *, weights: WeightKind, license: str | None, name: str) -> Facts:
    folder = place if place.is_dir() else place.parent
    saved, record = open_model(folder, weights=weights), record_beside(place)
    steps = step_of_weights(place, record)
    return Facts(
        name=name if "/" in name else f"owner/{name}",
        resolved=saved.plan.resolved,
        model=saved.model,
        steps=steps,
        test=_last_test(
            place.parents[1] if place.is_dir() else place.parent,
            steps,
            split="test_ema" if holds_average(place, weights) else "test",
        ),
        origin=origin_of(record),
        started_from=_without_path(record.get(RUN, {}).get(STARTED_FROM)),
        license=license or origin_of(record).get("license"),
    )


def _check(output: Path, *, license: str | None, name: str) -> None:
    if license is not None and not _LICENSE.fullmatch(license):
        raise InputError(
            f"--license {license!r}: give an identifier of https://huggingface.co/docs/hub/repositories-licenses, "
            "e.g. apache-2.0, cc-by-nc-sa-4.0 or other"
        )
    if not _NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: a name on the hub is NAME or OWNER/NAME of letters, digits, '.', '_', '-'")
    refuse_filled(output)


def _last_test(run: Path, steps: int, *, split: str) -> dict[str, Any]:
    """Return the last line of metrics.jsonl with this split, up to ``steps``; empty if there is none."""
    found: dict[str, Any] = {}
    with suppress(OSError):
        for line in (run / METRICS).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                record = json.loads(line)
                if record.get("split") == split and record.get("step", 0) <= steps:
                    found = record
    return current_names(found)


def _portable(resolved: Mapping[str, Any], record: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the experiment without settings of this machine."""
    run = record.get(RUN, {})
    kept = {key: run[key] for key in _KEPT if key in run} | {STEPS: facts.steps}
    if facts.started_from:
        kept[STARTED_FROM] = facts.started_from
    changes = {
        "train": resolved["train"] | {"initial_weights": None},
        "logging": [],
        "deepspeed": _portable_deepspeed(Path(resolved["deepspeed"])),
        RUN: kept,
    }
    return {**resolved, **changes}


def _portable_deepspeed(file: Path) -> str:
    """Return a relative path unchanged; for another path, the file of this name in ``ds_configs/``, or the default."""
    if not file.is_absolute():
        return str(file)
    return f"{_DS_CONFIGS}/{file.name}" if file.parent.name == _DS_CONFIGS else _DEFAULT_DEEPSPEED


def _copy_plugins(plugins: list[str], folder: Path) -> dict[str, Any]:
    """Copy plugins that are files; return the entry of the configuration that names them."""
    names = [Path(plugin).name if plugin.endswith(".py") else plugin for plugin in plugins]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"plugins: {', '.join(twice)} names two different files, but the exported folder can hold only "
            "one; rename the other"
        )
    for plugin, name in zip(plugins, names, strict=True):
        if plugin.endswith(".py"):
            shutil.copyfile(plugin, folder / name)
    return {"plugins": names} if names else {}


def _without_path(place: str | None) -> str:
    """Shorten a path of weights to names without folders of this machine: ``my_run, step_00001000``."""
    if not place:
        return ""
    path = Path(place)
    if path.parent.name == CHECKPOINTS:
        return f"{path.parents[1].name}, {path.name}"
    return path.parent.name if path.name == WEIGHTS else path.name


def _notes(facts: Facts, *, given: str | None) -> tuple[str, ...]:
    notes = []
    published = facts.origin.get("license")
    if not facts.license:
        notes.append("no license: others may not use weights that are published without one; give --license")
    elif given and published and given != published:
        notes.append(f"the initial weights were published under {published}, not {given}")
    if not facts.test:
        notes.append("no metrics: the run holds no evaluation")
    elif facts.test["step"] != facts.steps:
        notes.append(f"the last metrics are of step {facts.test['step']}, the weights of step {facts.steps}")
    return tuple(notes)
