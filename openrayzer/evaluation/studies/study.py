"""A study from its file to its page."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.evaluation.studies.execution import (
    Execution,
    Launch,
    execute,
    is_trained,
    local_processes,
    refuse_other_run,
    seconds_of_a_step,
    submitit_jobs,
)
from openrayzer.evaluation.studies.planned_runs import (
    PlannedRun,
    Variant,
    check_evaluations,
    check_variants,
    planned_runs,
    speed_probes,
    steps_of,
)
from openrayzer.evaluation.studies.results import StudyResults, read_results
from openrayzer.evaluation.studies.study_file import Study, read_study
from openrayzer.evaluation.studies.study_page import write_study
from openrayzer.machine.writing import check_folder_writable

JOBS = "jobs"


@dataclass(frozen=True)
class CheckedStudy:
    """A study whose variants and evaluations are right.

    Attributes:
        file: its file.
        study: its content.
        variants: its variants by name.
    """

    file: Path
    study: Study
    variants: Mapping[str, Variant]

    def summary(self) -> str:
        """A line for the terminal."""
        study = self.study
        runs = len(self.variants) * len(study.seeds)
        return (
            f"{len(self.variants)} variants x {len(study.seeds)} seeds = {runs} runs, each with "
            f"{len(study.evaluations)} evaluation(s): {', '.join(self.variants)}"
        )


@dataclass(frozen=True)
class Place:
    """Where and how a study runs.

    Attributes:
        output: folder of the results.
        launch: words before the name of the module.
        parallel: runs at the same time on this machine.
        submitit: parameters of submitit; empty runs on this machine.
    """

    output: Path
    launch: Launch
    parallel: int
    submitit: Mapping[str, str]


def check_study(file: Path, parser: ArgumentParser, request_of: Callable[[Namespace], Any]) -> CheckedStudy:
    """Read a study and check every variant and every evaluation.

    Args:
        file: its file.
        parser: the parser of ``openrayzer evaluate``.
        request_of: turns its arguments into a request.

    Raises:
        InputError: the message lists the problems.
    """
    study = read_study(file)
    check_evaluations(study, parser, request_of)
    return CheckedStudy(file, study, check_variants(study, file))


def run_study(checked: CheckedStudy, place: Place, *, told: Callable[[str], None]) -> tuple[StudyResults, list[Path]]:
    """Execute the runs that are not complete; returns the results and the written files.

    Args:
        checked: the study.
        place: where and how it runs.
        told: receives a line for every finished run.

    Raises:
        InputError: the output folder cannot be written or holds runs of another study; or a speed cannot be measured.
    """
    study, file, output = checked.study, checked.file, place.output
    check_folder_writable(output)
    probes = speed_probes(study, file, output)
    _execute([run for run in probes if not is_trained(run)], place, told)
    seconds = {run.variant: each for run in probes if (each := seconds_of_a_step(run)) is not None}
    steps = steps_of(study, checked.variants, seconds)
    runs = planned_runs(study, file, output, steps)
    for run in runs:
        refuse_other_run(run)
    failed = _execute(runs, place, told)
    results = read_results(study, checked.variants, steps, runs, failed)
    return results, write_study(results, output)


def _execute(runs: Sequence[PlannedRun], place: Place, told: Callable[[str], None]) -> dict[Path, str]:
    if not runs:
        return {}
    threads = 0
    if place.parallel > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, (os.cpu_count() or 1) // place.parallel)
    jobs = submitit_jobs(place.output / JOBS, place.submitit) if place.submitit else local_processes(place.parallel)
    with jobs as submit:
        return execute([Execution(run, place.launch, threads) for run in runs], submit, told)
