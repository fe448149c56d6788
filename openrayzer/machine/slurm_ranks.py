"""Ranks of the tasks that SLURM's ``srun`` starts, as the variables that launchers set."""

import re
from collections.abc import Mapping

from openrayzer.interfaces import InputError

_FIRST_PORT, _PORTS = 10_000, 20_000
"""Ports for the processes of a step; the system gives ports from 32768 on to connections."""


def slurm_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and so on of one of several tasks of a step; otherwise empty.

    Args:
        environment: the variables of the process. A given ``MASTER_ADDR`` or ``MASTER_PORT`` stays.

    Raises:
        InputError: the job has several tasks, and this process was not started by ``srun``.

    Source: SLURM's manual of srun, "Output environment variables".
    """
    if "RANK" in environment:
        return {}
    tasks = environment.get("SLURM_STEP_NUM_TASKS")
    if tasks is None and environment.get("SLURM_NTASKS", "1") != "1":
        raise InputError(
            f"SLURM has {environment['SLURM_NTASKS']} tasks here (SLURM_NTASKS), and this process is none of them: "
            "start it with srun. For a single process: srun --ntasks=1 openrayzer ..., or SLURM_NTASKS=1 openrayzer ..."
        )
    if tasks in (None, "1"):
        return {}
    node = int(environment["SLURM_NODEID"])
    alone = environment.get("SLURM_STEP_NUM_NODES") == "1"
    address = "127.0.0.1" if alone else first_host(environment["SLURM_STEP_NODELIST"])
    job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_WORLD_SIZE": str(tasks_of_nodes(environment["SLURM_STEP_TASKS_PER_NODE"])[node]),
        "MASTER_ADDR": environment.get("MASTER_ADDR", address),
        "MASTER_PORT": environment.get("MASTER_PORT", str(_FIRST_PORT + (31 * job + step) % _PORTS)),
    }


def first_host(nodes: str) -> str:
    """The first host of a list such as ``gpu[03-05,9],login1``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0] if first else nodes)


def tasks_of_nodes(text: str) -> list[int]:
    """Number of tasks of each node from a text such as ``8(x2),4``."""
    counts = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts
