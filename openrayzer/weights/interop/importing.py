"""Published weights to a run folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from openrayzer.composer import ExperimentPlan, construct, load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.machine.writing import refuse_filled, whole_folder
from openrayzer.weights.interop.golden import fill_imported
from openrayzer.weights.interop.published_files import read_configuration, read_weights_file
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.systems import check_belongs
from openrayzer.weights.weight_folder import EXPERIMENT_FILES, IMPORTED, WEIGHTS, write_weights

EXPERIMENT = EXPERIMENT_FILES[0]


@dataclass(frozen=True)
class Report:
    """What an import did.

    Attributes:
        num_weights: numbers in the model.
        notes: what a user should know, one sentence each.
    """

    num_weights: int
    notes: tuple[str, ...]


def import_weights(
    system: System,
    weights: Path,
    output: Path,
    *,
    base: Path,
    config: Path | None = None,
    given: Sequence[str] = (),
    overrides: Sequence[str] = (),
    data_roots: Sequence[Path] = (),
) -> Report:
    """Write a run folder: experiment.json and model.safetensors, checked by building its model and filling it.

    Args:
        system: whose weights they are.
        weights: ``.pt`` or ``.safetensors``.
        output: the run folder; must not exist, or be empty.
        base: experiment whose data, loss and training settings the run gets.
        config: configuration file of the published code.
        given: single values of it, ``model.transformer.vggstyle=true``.
        overrides: changes of the resulting experiment, as ``--set`` takes them.
        data_roots: folders of clips instead of the base's.

    Raises:
        InputError: anything the user gave is wrong; nothing is written then.
    """
    refuse_filled(output)
    imported = read_published(system, weights, config=config, given=given)
    planned = _plan(system, imported, output, base=base, overrides=overrides, data_roots=data_roots)
    model: Model = construct(planned.plan.arguments["model"])
    fill_imported(model, imported, source=weights)
    origin = {
        "system": system.name,
        "title": system.title,
        "source": weights.name,
        "license": system.license,
        "notes": list(imported.notes),
    }
    record = planned.resolved | {"run": {IMPORTED: origin}}
    with whole_folder(output) as unfinished:
        write_weights(model, unfinished / WEIGHTS)
        (unfinished / EXPERIMENT).write_text(json.dumps(record, indent=2), encoding="utf-8")
    return Report(sum(weight.numel() for weight in model.parameters()), imported.notes)


def read_published(system: System, weights: Path, *, config: Path | None, given: Sequence[str]) -> Imported:
    """A file of published weights in our words, with a note on everything that was left out, converted or taken.

    Raises:
        InputError: the file, the configuration, or both together are wrong.
    """
    published = read_weights_file(weights)
    check_belongs(published.state, system)
    configuration = read_configuration(config, given, known=published.configuration)
    try:
        imported = system.read(published.state, configuration)
        configuration.check_used()
    except InputError as error:
        raise InputError(f"{weights} as {system.name}:\n{error}") from error
    notes = (*published.notes, *imported.notes, *configuration.notes)
    return Imported(imported.model, imported.weights, imported.published, imported.experiment, notes)


def _plan(
    system: System,
    imported: Imported,
    output: Path,
    *,
    base: Path,
    overrides: Sequence[str],
    data_roots: Sequence[Path],
) -> ExperimentPlan:
    """The base experiment with the published model in it, tried out without memory."""
    description = f"Weights of {system.title}, imported; data, loss and training settings from {base.name}."
    changes = [
        "shared={}",
        f"description={json.dumps(description)}",
        f"model={json.dumps(imported.model)}",
        f"train.initial_weights={json.dumps(str(output.resolve() / WEIGHTS))}",
        *imported.experiment,
        *overrides,
    ]
    planned = load_experiment(base, overrides=changes, data_roots=data_roots)
    with torch.device("meta"):
        planned.build()
    return planned
