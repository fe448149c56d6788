"""Loading of an experiment file: read, merge with its bases, apply overrides, check; ``build`` creates the objects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from openrayzer.composer.build import ExperimentError, Plan, construct, plan, resolved
from openrayzer.composer.files import SHIPPED, Document, experiment_file, read_chain
from openrayzer.composer.leaves import shown
from openrayzer.composer.overrides import apply_overrides, merge, with_data_roots
from openrayzer.composer.schema import Schema
from openrayzer.interfaces import PLUGIN_GROUP, REGISTRIES
from openrayzer.settings import Experiment
from registry import PluginError, Registry, did_you_mean, load_plugin

_HEAD = ("description", "extends", "plugins", "shared", "run")
"""Keys of a file besides the sections of an experiment; ``run`` is the record of a run in its experiment.json."""


@dataclass(frozen=True)
class ExperimentPlan:
    """A checked experiment.

    Attributes:
        path: the experiment file.
        plan: plan of the ``Experiment``.
        resolved: plain JSON with all defaults; loading it gives an equal plan.
    """

    path: Path
    plan: Plan
    resolved: dict[str, Any]

    def build(self) -> Experiment:
        """Build all objects of the experiment. Under ``torch.device("meta")`` the model takes no memory.

        Raises:
            ExperimentError: a constructor rejects its values.
        """
        try:
            return construct(self.plan)
        except ExperimentError as error:
            raise ExperimentError(error.problems, source=self.path) from error.__cause__


def load_experiment(
    path: Path | str,
    *,
    overrides: Sequence[str] = (),
    data_roots: Sequence[Path | str] = (),
    registries: Iterable[Registry] = REGISTRIES,
) -> ExperimentPlan:
    """Read and check an experiment.

    Paths under ``extends`` and ``plugins`` are relative to the file that contains them. Other paths are relative to the
    current folder. If there is no such file for ``deepspeed``, its path is relative to the experiment's folder, to the
    parent of this folder, or to the files that openrayzer ships.

    Args:
        path: the JSON file, or the name of an experiment that openrayzer ships.
        overrides: changes such as ``train.steps=100``; they apply in order to the merged JSON, before the check.
        data_roots: folders of chunks that replace ``data.train`` and ``data.test``.
        registries: registries of the components.

    Raises:
        ExperimentError: the file has problems; the message lists all with their JSON paths.
    """
    path, schema = experiment_file(path), Schema(registries := tuple(registries))
    chain = read_chain(path)
    plugins = _load_plugins(chain)
    values: dict[str, Any] = {}
    for document in chain:
        values = merge(values, document.values, Experiment, schema)
    values = with_data_roots(values, data_roots)
    try:
        values = apply_overrides(values, overrides, Experiment, schema)
        planned = _plan(values, registries)
    except ExperimentError as error:
        raise ExperimentError(error.problems, source=path) from error.__cause__
    planned = replace(planned, arguments=planned.arguments | {"deepspeed": _deepspeed(planned, path)})
    head = {"description": values["description"]} if "description" in values else {}
    head |= {"plugins": plugins} if plugins else {}
    return ExperimentPlan(path, planned, head | resolved(planned))


def _plan(values: dict[str, Any], registries: tuple[Registry, ...]) -> Plan:
    """Plan of the experiment; one error reports the problems of all keys and sections."""
    sections = [item.name for item in fields(Experiment)]
    problems = []
    for key in values:
        if key not in sections and key not in _HEAD:
            problems.append(f"{key}: an experiment has no such section{did_you_mean(key, [*sections, *_HEAD])}")
    if not isinstance(values.get("description", ""), str):
        problems.append(f"description: expected a string, got {shown(values['description'])}")
    shared = values.get("shared", {})
    if not isinstance(shared, dict):
        problems.append(f"shared: expected an object {{...}}, got {shown(shared)}")
        shared = {}
    spec = {key: value for key, value in values.items() if key in sections}
    try:
        planned = plan(spec, Experiment, registries=registries, shared=shared)
    except ExperimentError as error:
        raise ExperimentError([*problems, *error.problems]) from error.__cause__
    if problems:
        raise ExperimentError(problems)
    return planned


def _load_plugins(chain: list[Document]) -> list[str]:
    """Import the plugins of all files, bases first. Returns their names, with absolute paths for ``.py`` files."""
    found: dict[str, None] = {}
    for document in chain:
        names = document.values.get("plugins", [])
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ExperimentError([f"plugins: expected a list of names, got {shown(names)}"], source=document.path)
        problems, folder = [], document.path.resolve().parent
        for name in names:
            try:
                load_plugin(name, group=PLUGIN_GROUP, root=folder)
            except PluginError as error:
                problems.append(f"plugins: {error}")
            found[str((folder / name).resolve()) if name.endswith(".py") else name] = None
        if problems:
            raise ExperimentError(problems, source=document.path)
    return list(found)


def _deepspeed(planned: Plan, path: Path) -> str:
    """Path of the DeepSpeed file: from the current folder, the experiment's folder or the parent of this folder.

    A path from the shipped files stays as it is, so that the record of a run is valid on every machine.
    """
    given = planned.arguments["deepspeed"]
    if Path(given).exists() or path.parent.parent == SHIPPED:
        return given
    places = (folder / given for folder in (path.resolve().parent, path.resolve().parent.parent))
    return next((str(place) for place in places if place.exists()), given)
