"""Executors of submitit, which submit jobs to SLURM or start them as processes of this machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openrayzer.interfaces import InputError

SIGNAL = "USR1"
"""The signal before the time limit and at a preemption; a training writes a checkpoint and ends."""
RESTARTS = 1000
"""Largest number of time limits after which a job starts again."""
_KNOWN = "partition, account, qos, constraint, cpus_per_task, mem, time"


def submitit_module(option: str) -> Any:
    """The module ``submitit``.

    Args:
        option: the option that needs it, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise InputError(f"{option} needs submitit: pip install 'openrayzer[slurm]'") from error
    return submitit


def training_executor(folder: Path, settings: Mapping[str, Any], *, local: bool, option: str) -> Any:
    """An executor for one training: one task for each rank, requeued at the time limit and after a preemption.

    Args:
        folder: folder for the script, the logs and the state of the job.
        settings: SLURM's own names with underscores, e.g. ``partition``, ``nodes``, ``ntasks_per_node``, ``time`` in
            minutes.
        local: start processes on this machine instead.
        option: the option that gave the settings, for messages.

    Raises:
        InputError: submitit is not installed, or it refuses a setting.
    """
    submitit = submitit_module(option)
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = SIGNAL  # for the job, which inherits this environment
    submitit.core.job_environment.JobEnvironment.USR_SIG = SIGNAL
    if local:
        executor = submitit.LocalExecutor(folder, max_num_timeout=RESTARTS)
        executor.update_parameters(
            timeout_min=settings["time"],
            tasks_per_node=settings["ntasks_per_node"],
            gpus_per_node=settings.get("gpus_per_node", 0),
            signal_delay_s=settings["signal_delay_s"],
            stderr_to_stdout=True,
        )
        return executor

    # a script can be written on a machine without SLURM, too
    kind = type("ScriptExecutor", (submitit.SlurmExecutor,), {"affinity": classmethod(lambda _: 2)})
    try:
        executor = kind(folder, max_num_timeout=RESTARTS)
        executor.update_parameters(**settings)
    except (ValueError, TypeError) as error:
        problem = str(error).partition("\n")[0]
        raise InputError(f"{option}: {problem}; known are {_KNOWN}, and other options of sbatch") from error
    return executor
