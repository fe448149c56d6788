"""The runs of a study, each checked before the first one starts."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from openrayzer.composer import ExperimentPlan, experiment_file, load_experiment
from openrayzer.composer.build import ExperimentError
from openrayzer.composer.overrides import number_at
from openrayzer.evaluation.studies.study_file import Study
from openrayzer.interfaces import InputError
from openrayzer.planning.flops import count_flops

RUNS, PROBES = "runs", "speed"
STEPS, CLIPS = "steps", "clips"
"""The sizes that grow while a run trains."""
PROBE_STEPS = 20
"""Steps of the short training that measures the speed of a variant."""
_QUIET = (
    "data.test=[]", "train.evaluate_every=0", "train.sample_every=0", "train.checkpoint_every=0", "train.log_every=5",
    f"train.steps={PROBE_STEPS}",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One variant of a study.

    Attributes:
        name: its name, also that of its folder.
        changes: all changes of the base experiment, without steps and seed.
        weights: number of weights of its model.
        step_flops: floating point operations of one optimizer step; None if they cannot be counted.
        batch_size: clips of one optimizer step.
        sizes: value of each size of the study's scaling; ``steps`` and ``clips`` are those of one step.
    """

    name: str
    changes: tuple[str, ...]
    weights: int
    step_flops: float | None
    batch_size: int
    sizes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedRun:
    """One training and its evaluations.

    Attributes:
        variant: name of its variant.
        seed: its seed.
        folder: the run folder.
        experiment: file of the base experiment.
        changes: all changes of the base experiment.
        steps: number of optimizer steps.
        evaluations: name -> arguments of ``openrayzer evaluate``.
    """

    variant: str
    seed: int
    folder: Path
    experiment: Path
    changes: tuple[str, ...]
    steps: int
    evaluations: Mapping[str, tuple[str, ...]]

    def evaluated(self, name: str) -> Path:
        """Folder of one evaluation."""
        return self.folder.with_name(f"{self.folder.name}_{name}")


def check_variants(study: Study, file: Path) -> dict[str, Variant]:
    """Load every variant and build it without memory for its weights.

    Raises:
        ExperimentError: some variants are wrong; the message lists all problems with the names of the variants.
    """
    base = experiment_file(study.experiment, folder=file.parent)
    found, problems = {}, list[str]()
    for name, own in study.all_variants.items():
        changes = (*study.changes, *own)
        try:
            plan = load_experiment(base, overrides=[*changes, "train.steps=1"])
            found[name] = _variant(study, name, changes, plan)
        except InputError as error:
            known = error.problems if isinstance(error, ExperimentError) else [str(error)]
            problems += [f"{name}: {problem}" for problem in known]
    if problems:
        raise ExperimentError(problems, source=file)
    return found


def planned_runs(study: Study, file: Path, output: Path, steps: Mapping[str, int]) -> list[PlannedRun]:
    """All runs, all variants of the first seed first.

    Args:
        study: the study.
        file: its file.
        output: folder of the results.
        steps: variant -> number of optimizer steps.
    """
    base = experiment_file(study.experiment, folder=file.parent)
    return [
        PlannedRun(
            name, seed, output / RUNS / name / f"seed_{seed}", base,
            (*study.changes, *changes, f"train.steps={steps[name]}", f"train.seed={seed}"), steps[name],
            study.evaluations,
        )
        for seed in study.seeds
        for name, changes in study.all_variants.items()
    ]  # fmt: skip


def speed_probes(study: Study, file: Path, output: Path) -> list[PlannedRun]:
    """A short training of each variant; none unless the budget is in seconds."""
    base = experiment_file(study.experiment, folder=file.parent)
    return [
        PlannedRun(name, 0, output / PROBES / name, base, (*study.changes, *changes, *_QUIET), PROBE_STEPS, {})
        for name, changes in study.all_variants.items()
        if study.budget.seconds
    ]


def steps_of(study: Study, variants: Mapping[str, Variant], seconds: Mapping[str, float]) -> dict[str, int]:
    """The number of optimizer steps that spends the budget, at least 1.

    Args:
        study: the study.
        variants: its variants.
        seconds: variant -> seconds of one step, if the budget is in seconds.

    Raises:
        InputError: the budget is in seconds, and the speed of a variant is not known.
    """
    budget = study.budget
    if budget.seconds and (unknown := variants.keys() - seconds.keys()):
        raise InputError(f"the speed of {', '.join(sorted(unknown))} could not be measured, so its steps are unknown")
    found = {}
    for name, variant in variants.items():
        exact = {
            "steps": budget.steps,
            "clips": budget.clips / variant.batch_size,
            "flops": budget.flops / (variant.step_flops or 1.0),
            "seconds": budget.seconds / seconds.get(name, 1.0),
        }
        multiple = study.forecast.get(name, 1.0)
        found[name] = max(1, round(multiple * next(value for value in exact.values() if value)))
    return found


def check_evaluations(study: Study, parser: ArgumentParser, request_of: Callable[[Namespace], Any]) -> None:
    """Check the arguments of the evaluations.

    Args:
        study: the study.
        parser: the parser of ``openrayzer evaluate``.
        request_of: turns the parsed arguments into a request and refuses contradictions.

    Raises:
        InputError: the message gives the name of the evaluation.
    """
    for name, given in study.evaluations.items():
        if {"--run", "--output"} & set(given):
            raise InputError(f"evaluations.{name}: the study itself gives --run and --output")
        try:
            with redirect_stderr(StringIO()) as said:
                request_of(parser.parse_args(["--run", "run", "--output", "results", *given]))
        except SystemExit as error:
            raise InputError(f"evaluations.{name}: {said.getvalue().rpartition('error: ')[2].strip()}") from error
        except InputError as error:
            raise InputError(f"evaluations.{name}: {error}") from error


def _variant(study: Study, name: str, changes: tuple[str, ...], plan: ExperimentPlan) -> Variant:
    with torch.device("meta"):
        experiment = plan.build()
    try:
        flops = float(count_flops(experiment).step)
    except Exception as error:  # samplers and models may come from plugins
        if study.budget.flops:
            raise InputError(f"its FLOPs cannot be counted: {type(error).__name__}: {error}") from error
        flops = None
    weights = sum(weight.numel() for weight in experiment.model.parameters())
    batch_size = experiment.train.batch_size
    known = {"weights": float(weights), STEPS: 1.0, CLIPS: float(batch_size)}
    sizes = {
        size: known[size] if size in known else number_at(plan.resolved, size)
        for size in (study.scaling.sizes if study.scaling else ())
    }
    if wrong := [size for size, value in sizes.items() if value <= 0]:
        raise InputError(f"scaling: {wrong[0]} is {sizes[wrong[0]]:g} and must be above 0")
    return Variant(name, changes, weights, flops, batch_size, sizes)
