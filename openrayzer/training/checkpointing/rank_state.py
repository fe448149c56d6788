"""The part of a checkpoint that belongs to one process, and its conversion to another number of processes."""

from collections.abc import Mapping, Sequence
from typing import Any

from openrayzer.machine import random_state
from openrayzer.training.logs.meter import Meter

STEP_STRIDE = 1_000_003
"""Distance between the seeds of a new process at one step and at the next."""


def rank_state(meter: Meter, *, problems: int, losses: Sequence[float]) -> dict[str, Any]:
    """The state of this process, as tensors and plain values."""
    return {"random": random_state.capture(), "meter": meter.state(), "problems": problems, "losses": list(losses)}


def merge_states(states: Sequence[Mapping[str, Any]], *, rank: int, random_from: int | None = None) -> dict[str, Any]:
    """The state of a process when the number of processes has changed.

    Former processes keep their random generators; additional ones get None. Sums of measured values become their means
    over the former processes, so the next line of metrics.jsonl is the same. Rank 0 takes over the count of broken
    scenes.

    Args:
        states: of all former processes, by rank.
        rank: of the process now.
        random_from: rank of the former process whose random generators this process takes; the same rank by default.
    """
    meters = [state["meter"] for state in states]
    names = meters[0]["sums"]
    sums = {name: sum(meter["sums"][name] for meter in meters) / len(meters) for name in names}
    problems = sum(state["problems"] for state in states) if rank == 0 else 0
    source = rank if random_from is None else random_from
    random = states[source]["random"] if source < len(states) else None
    merged = {"random": random, "meter": {"sums": sums, "counts": meters[0]["counts"]}, "problems": problems}
    return merged | {"losses": states[0].get("losses", [])}  # all processes have the same


def restore_random(state: Mapping[str, Any] | None, *, seed: int, step: int) -> None:
    """Restore the random generators; without a state, seed them with a value that no other step uses."""
    if state is None:
        random_state.seed_all(seed + STEP_STRIDE * step)
    else:
        random_state.restore(dict(state))
