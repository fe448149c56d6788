"""Running the trainings and evaluations of a study as processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from openrayzer.composer import load_experiment
from openrayzer.evaluation.comparison.run_log import read_run_log
from openrayzer.evaluation.results.output_folder import METRICS
from openrayzer.evaluation.studies.planned_runs import PlannedRun
from openrayzer.interfaces import InputError
from openrayzer.machine.distributed import die_with_parent
from openrayzer.machine.slurm_jobs import submitit_module
from openrayzer.weights.checkpoints.manifest import manifests
from openrayzer.weights.run_layout import CHECKPOINTS, EXPERIMENT
from openrayzer.weights.run_layout import METRICS as LOG
from openrayzer.weights.run_record import differences, read_record

MODULE = "openrayzer.cli"
_RUNNING: set[subprocess.Popen[bytes]] = set()
"""The processes of all threads."""
Launch = tuple[str, ...]
"""Words before the name of the module, e.g. ``("torchrun", "--nproc_per_node", "8", "-m")``."""


def is_trained(run: PlannedRun) -> bool:
    """Whether the run has all its steps."""
    steps = [manifest["step"] for manifest in manifests(run.folder / CHECKPOINTS).values()]
    return max(steps, default=-1) >= run.steps


def is_evaluated(run: PlannedRun, name: str) -> bool:
    """Whether an evaluation of the run is complete. Its folder appears only then."""
    return (run.evaluated(name) / METRICS).is_file()


def refuse_other_run(run: PlannedRun) -> None:
    """Check that the run folder, if it exists, belongs to this run.

    Raises:
        InputError: its run has other settings.
    """
    file = run.folder / EXPERIMENT
    if not file.is_file():
        return
    record = read_record(file)
    planned = load_experiment(run.experiment, overrides=run.changes).resolved
    now = {**planned, "run": record.get("run", {})}
    changed = differences(record, now)
    before = record.get("train", {}).get("steps")
    if before != run.steps:
        changed.append(f"train.steps: {before} -> {run.steps}")
    if changed:
        raise InputError(
            f"{run.folder} was trained with other settings ({'; '.join(changed[:3])}); choose another --output, or "
            "remove this folder"
        )


@dataclass(frozen=True)
class Execution:
    """Trains and evaluates a run, without the parts that are complete. A second call continues where the first stopped.

    Attributes:
        run: the run.
        launch: words before the name of the module.
        threads: number of threads of each process; 0 leaves the choice to PyTorch.
    """

    run: PlannedRun
    launch: Launch = (sys.executable, "-m")
    threads: int = 0

    def __call__(self) -> str:
        """The reason why the run failed; empty if it is complete."""
        run = self.run
        if not is_trained(run):
            words = ["train", "--exp", str(run.experiment), "--output", str(run.folder), "--set", *run.changes]
            if problem := self._process("training", words):
                return problem
        for name, given in run.evaluations.items():
            if not is_evaluated(run, name):
                words = ["evaluate", "--run", str(run.folder), "--output", str(run.evaluated(name)), *given]
                if problem := self._process(f"evaluation {name}", words):
                    return problem
        return ""

    def checkpoint(self) -> Any:
        """The job that submitit starts again after a preemption or a time limit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _process(self, what: str, words: Sequence[str]) -> str:
        log = self.run.folder.with_name(f"{self.run.folder.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file, subprocess.Popen(
            [*self.launch, MODULE, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env=self._environment(), preexec_fn=die_with_parent,  # so that a second start finds no rival
        ) as process:  # fmt: skip
            _RUNNING.add(process)
            process.wait()
            _RUNNING.discard(process)
        if not process.returncode:
            return ""
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f"{what} ended with exit code {process.returncode}: {lines[-1] if lines else 'no output'} ({log})"

    def _environment(self) -> dict[str, str]:
        return os.environ | ({"OMP_NUM_THREADS": str(self.threads)} if self.threads else {})


class Job(Protocol):
    """A started execution: a future of Python or a job of submitit."""

    def result(self) -> str:
        """Wait for its end; returns the result of the execution."""


Submit = Callable[[Execution], Job]


def execute(executions: Sequence[Execution], submit: Submit, told: Callable[[str], None]) -> dict[Path, str]:
    """Execute runs; one that fails does not stop the others.

    Args:
        executions: in the order in which they start.
        submit: starts one when there is room for it.
        told: receives a line for every finished run.

    Returns:
        Folder of each failed run -> the reason.
    """
    failed: dict[Path, str] = {}
    waiting = [(each.run, submit(each)) for each in executions]
    for number, (run, job) in enumerate(waiting, 1):
        try:
            problem = job.result()
        except Exception as error:  # a cluster can lose a job for any reason, and the other runs go on
            problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if problem:
            failed[run.folder] = problem
        told(f"{number}/{len(waiting)} {run.variant}, seed {run.seed}: {problem or 'complete'}")
    return failed


@contextmanager
def local_processes(parallel: int) -> Iterator[Submit]:
    """Threads that each wait for one process. An error or an interruption also ends the processes."""
    executor = ThreadPoolExecutor(parallel)
    try:
        yield executor.submit
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        asked = set[subprocess.Popen[bytes]]()  # once each: a second signal would end a training without a checkpoint
        while _RUNNING:
            for process in _RUNNING - asked:
                process.terminate()
            asked |= _RUNNING
            time.sleep(0.1)
        raise
    finally:
        executor.shutdown()


@contextmanager
def submitit_jobs(folder: Path, settings: Mapping[str, str]) -> Iterator[Submit]:
    """Jobs of SLURM through submitit, which starts them again after a preemption.

    Args:
        folder: folder for the scripts and logs of the jobs.
        settings: parameters of submitit's ``AutoExecutor``, e.g. ``timeout_min``, ``gpus_per_node`` and
            ``slurm_partition``; ``cluster=local`` starts processes on this machine.

    Raises:
        InputError: submitit is not installed, or it refuses a setting.
    """
    submitit = submitit_module("--submitit")
    values: dict[str, Any] = {key: int(value) if value.isdigit() else value for key, value in settings.items()}
    try:
        executor = submitit.AutoExecutor(folder, cluster=values.pop("cluster", None))
        executor.update_parameters(name="openrayzer-study", **values)
    except (NameError, TypeError, RuntimeError) as error:
        raise InputError(f"--submitit: {error}") from error
    yield executor.submit


def seconds_of_a_step(run: PlannedRun) -> float | None:
    """Median seconds of a step in the log of a run, without those of the first record; None without such a log."""
    file = run.folder / LOG
    if not file.is_file():
        return None
    records = [line.get("seconds") for line in read_run_log(file).train[1:]]
    values = sorted(value for value in records if isinstance(value, int | float))
    return values[len(values) // 2] if values else None
