"""What each process keeps of its own in a checkpoint, and what becomes of it under another number of processes."""

from collections.abc import Mapping, Sequence
from typing import Any

from openrayzer.machine import random_state
from openrayzer.training.logs.meter import Meter

STEP_STRIDE = 1_000_003
"""Between the seeds of a process that begins anew at one step and at the next."""


def rank_state(meter: Meter, *, problems: int, losses: Sequence[float]) -> dict[str, Any]:
    """Tensors and plain values that this process needs to go on."""
    return {"random": random_state.capture(), "meter": meter.state(), "problems": problems, "losses": list(losses)}


def merge_states(states: Sequence[Mapping[str, Any]], *, rank: int) -> dict[str, Any]:
    """The state of one process among another number of them.

    Random generators go on in the processes that there were before; further ones get None. Sums of measured values
    become their means over the former processes, so that the next line of metrics.jsonl is the same. Broken scenes
    are counted by rank 0.

    Args:
        states: of all former processes.
        rank: of the process now.
    """
    meters = [state["meter"] for state in states]
    names = meters[0]["sums"]
    sums = {name: sum(meter["sums"][name] for meter in meters) / len(meters) for name in names}
    problems = sum(state["problems"] for state in states) if rank == 0 else 0
    random = states[rank]["random"] if rank < len(states) else None
    merged = {"random": random, "meter": {"sums": sums, "counts": meters[0]["counts"]}, "problems": problems}
    return merged | {"losses": states[0].get("losses", [])}  # the same in all of them


def restore_random(state: Mapping[str, Any] | None, *, seed: int, step: int) -> None:
    """Set every generator to ``state``, or, where there is none, to a place that no step before has used."""
    if state is None:
        random_state.seed_all(seed + STEP_STRIDE * step)
    else:
        random_state.restore(dict(state))
