"""``openrayzer train --slurm``: a training as a job of SLURM that starts again until it is finished."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrayzer.cli import COMMANDS
from openrayzer.composer import ExperimentPlan, construct
from openrayzer.interfaces import InputError
from openrayzer.machine.slurm_jobs import SIGNAL, submitit_module, training_executor

OPTION = "--slurm"
_SIGNALLED = 128
_BY_SIGNAL = _SIGNALLED + signal.Signals[f"SIG{SIGNAL}"]
_LOOK_EVERY = 2.0  # seconds
_WARNING_SECONDS = 300


@dataclass(frozen=True)
class Training:
    """The work of each task of the job: one rank of the training.

    Attributes:
        words: arguments of ``openrayzer train``, without ``--resume``.
        resume: value of ``--resume`` at the first start; a job that starts again continues its own run.
    """

    words: tuple[str, ...]
    resume: str

    def __call__(self) -> int:
        """Train; returns the exit code."""
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        try:
            code = COMMANDS["train"].main([*self.words, "--resume", "auto" if again else self.resume])
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        if code == _BY_SIGNAL:
            signal.raise_signal(signal.Signals[f"SIG{SIGNAL}"])  # submitit's handler submits the job again
        if code > _SIGNALLED:
            sys.exit(code)  # without a result, because SLURM may start the job again
        return code

    def checkpoint(self) -> Any:
        """The job that submitit starts again at the time limit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Training(self.words, "auto"))


@dataclass(frozen=True)
class Request:
    """The values of ``--slurm``.

    Attributes:
        settings: SLURM's own names with underscores.
        local: start the ranks on this machine.
        dry: print the script only.
    """

    settings: dict[str, Any]
    local: bool
    dry: bool

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return self.settings["nodes"] * self.settings["ntasks_per_node"]

    @staticmethod
    def parse(texts: list[str], *, workers: int) -> "Request":
        """Read ``KEY=VALUE`` and ``dry``.

        Args:
            texts: the words after ``--slurm``.
            workers: loading processes of a rank, which need CPU cores of their own.

        Raises:
            InputError: a text is malformed, or a number is out of range.
        """
        given = [text for text in texts if text != "dry"]
        if wrong := [text for text in given if not all(text.partition("="))]:
            raise InputError(
                f"{OPTION} takes KEY=VALUE and dry, got {wrong[0]!r}; e.g. {OPTION} partition=gpu hours=24"
            )
        values: dict[str, Any] = dict(text.split("=", 1) for text in given)
        cluster = values.pop("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise InputError(f"{OPTION} cluster must be slurm or local, got {cluster!r}")
        local = cluster == "local"
        hours = _number(values.pop("hours", "24"), "hours", whole=False)
        values = {key: int(value) if value.isdecimal() else value for key, value in values.items()}
        nodes = _number(values.get("nodes", 1), "nodes")
        if not values.get("gpus_per_node", 1):
            del values["gpus_per_node"]  # SLURM may not know GPUs at all
        gpus = _number(values.get("gpus_per_node", 1), "gpus_per_node")
        tasks = _number(values.pop("tasks_per_node", gpus), "tasks_per_node")
        if local and nodes > 1:
            raise InputError(
                f"{OPTION} cluster=local starts processes on this machine, so nodes must be 1, got {nodes}"
            )
        defaults = {
            "job_name": "openrayzer", "time": max(1, round(60 * hours)), "cpus_per_task": workers + 1,
            "signal_delay_s": _WARNING_SECONDS, "stderr_to_stdout": True, "additional_parameters": {"requeue": True},
        }  # fmt: skip
        cores = values.get("cpus_per_task", defaults["cpus_per_task"])
        defaults["srun_args"] = [f"--cpus-per-task={cores}"]  # since SLURM 22.05 srun does not take it from the job
        return Request(defaults | values | {"nodes": nodes, "ntasks_per_node": tasks}, local, "dry" in texts)


def train_on_slurm(arguments: Namespace, run_folder: Path, plan: ExperimentPlan) -> int:
    """Submit the training, print its log until it ends, and return its exit code. Ctrl-C leaves the job running.

    Args:
        arguments: the parsed arguments of ``openrayzer train``.
        run_folder: the run folder.
        plan: the checked experiment.

    Raises:
        InputError: a value of ``--slurm`` is wrong, the batch does not suit the number of ranks, or there is no SLURM.
    """
    from openrayzer.training.deepspeed_config import micro_batch_size

    request = Request.parse(arguments.slurm, workers=plan.resolved["data"]["workers"])
    micro_batch_size(construct(plan.plan.arguments["train"]), world_size=request.ranks)
    folder = run_folder.with_name(f"{run_folder.name}.slurm").absolute()
    executor = training_executor(folder, request.settings, local=request.local, option=OPTION)
    if request.dry:
        print(executor._make_submission_file_text(executor._submitit_command_str, "dry"))
        return 0
    if not request.local and shutil.which("sbatch") is None:
        raise InputError(f"{OPTION} needs sbatch, which is not on this machine; {OPTION} dry prints the script")
    words = ["--exp", str(arguments.exp), "--output", str(run_folder)]
    words += [word for name in ("set", "data") if getattr(arguments, name)
              for word in (f"--{name}", *map(str, getattr(arguments, name)))]  # fmt: skip
    try:
        job = executor.submit(Training(tuple(words), arguments.resume))
    except submitit_module(OPTION).core.utils.FailedJobError as error:
        raise InputError(f"{OPTION}: SLURM refused the job: {error}") from error
    print(f"job {job.job_id}: {request.ranks} ranks; script and logs in {folder}", flush=True)
    try:
        return _follow(job)
    except KeyboardInterrupt:
        print(f"the job continues; its log is {job.paths.stdout}", file=sys.stderr)
        raise


def _follow(job: Any) -> int:
    """Print the log of rank 0 until the job ends; returns its exit code."""
    first = job.task(0)
    lines = _new_text(first.paths.stdout)
    while True:
        ended = first.paths.result_pickle.exists() or _is_gone(job)
        print(next(lines), end="", flush=True)
        if ended:
            break
        time.sleep(_LOOK_EVERY)
    if not first.paths.result_pickle.exists():
        print(f"job {job.job_id} ended before the training was finished; its logs are in {job.paths.folder}",
              file=sys.stderr)  # fmt: skip
        return 1
    return first.result()


def _is_gone(job: Any) -> bool:
    """Whether a job has ended. A job that waits for its next start has not ended. The answer comes from SLURM's queue,
    because SLURM may have no accounting."""
    if isinstance(job, submitit_module(OPTION).LocalJob):
        return job.state in ("FINISHED", "INTERRUPTED")
    asked = subprocess.run(
        ["squeue", "--noheader", f"--jobs={job.job_id}"], capture_output=True, text=True, check=False
    )
    return "Invalid job id" in asked.stderr if asked.returncode else not asked.stdout.strip()


def _new_text(path: Path) -> Iterator[str]:
    """The text that was appended to a file since the last call."""
    position = 0
    while True:
        text = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                text = file.read()
        position += len(text)
        yield text.decode(errors="replace")


def _number(value: Any, name: str, *, whole: bool = True) -> Any:
    try:
        number = int(value) if whole else float(value)
    except (TypeError, ValueError):
        number = 0
    if not 0 < number < math.inf:
        raise InputError(f"{OPTION} {name} must be {'1 or more' if whole else 'above 0'}, got {value!r}")
    return number
