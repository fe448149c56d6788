"""Import published weights into a run folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openrayzer.composer import ExperimentPlan, construct, load_experiment
from openrayzer.interfaces import InputError, Model
from openrayzer.machine.progress import stages_of
from openrayzer.machine.writing import refuse_filled, whole_folder
from openrayzer.weights.interop.golden import fill_imported
from openrayzer.weights.interop.published_files import read_configuration, read_weights_file
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.systems import check_belongs
from openrayzer.weights.run_layout import EXPERIMENT
from openrayzer.weights.weight_folder import IMPORTED, WEIGHTS, write_weights


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Attributes:
        num_weights: number of weights in the model.
        notes: remarks for the user, one sentence each.
    """

    num_weights: int
    notes: tuple[str, ...]


def import_weights(
    system: System,
    weights: str | Path,
    output: str | Path,
    *,
    base: str | Path,
    config: str | Path | None = None,
    given: Sequence[str] = (),
    overrides: Sequence[str] = (),
    data_roots: Sequence[str | Path] = (),
) -> ImportReport:
    """Convert published weights and write a run folder with experiment.json and model.safetensors.

    Args:
        system: the published system.
        weights: a ``.pt`` or ``.safetensors`` file.
        output: the run folder to write; must not exist or be empty.
        base: experiment file that provides data, loss and training settings.
        config: configuration file of the published code.
        given: single values of the configuration, e.g. ``model.transformer.vggstyle=true``.
        overrides: changes of the resulting experiment, e.g. ``train.steps=100``.
        data_roots: folders of clips that replace those of ``base``.

    Raises:
        InputError: a file, the configuration or an override is wrong; nothing is written then.
    """
    weights, output, base = Path(weights), Path(output), Path(base)
    refuse_filled(output)
    with stages_of("import", total=3) as begin:
        begin(f"reading {weights.name}")
        imported = read_published(system, weights, config=config, given=given)
        begin("building the model")
        planned = _plan(system, imported, output, base=base, overrides=overrides, data_roots=[*map(Path, data_roots)])
        model: Model = construct(planned.plan.arguments["model"])
        fill_imported(model, imported, source=weights)
        begin(f"writing {WEIGHTS}")
        record = planned.resolved | {"run": {IMPORTED: _origin(system, weights, imported)}}
        with whole_folder(output) as folder:
            write_weights(model, folder / WEIGHTS)
            (folder / EXPERIMENT).write_text(json.dumps(record, indent=2), encoding="utf-8")
    return ImportReport(sum(weight.numel() for weight in model.parameters()), imported.notes)


def read_published(system: System, weights: Path, *, config: str | Path | None, given: Sequence[str]) -> Imported:
    """Read a file of published weights and convert it to our names.

    The notes list all omitted weights, all conversions and all default settings.

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


def _origin(system: System, weights: Path, imported: Imported) -> dict[str, Any]:
    return {
        "system": system.name,
        "title": system.title,
        "source": weights.name,
        "license": system.license,
        "notes": list(imported.notes),
    }


def _plan(
    system: System,
    imported: Imported,
    output: Path,
    *,
    base: Path,
    overrides: Sequence[str],
    data_roots: Sequence[Path],
) -> ExperimentPlan:
    """Plan the base experiment with the published model, and build it once without allocating memory."""
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
