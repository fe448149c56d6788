"""The planned time of a step on several CPU ranks beside the measured one, after a calibration on one rank.

All times are processor time of the busiest rank: the ranks of one machine share its cores, and processor time is the
time of a step in which each rank has a core of its own. One rank trains with one and with two times the clips. The
difference is the computation of the clips, and the rest is the optimizer, which ZeRO divides in part
(``planning/roofline.py``). A measured all-reduce of the gradients gives the rate of the link. From these numbers, the
formulas of the plan give the time on several ranks (``planning/communication.py``).
"""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from openrayzer.benchmarks.training_speed import TrainingSide, measure
from openrayzer.composer import load_experiment
from openrayzer.planning.communication import LINK_SHARE, Communication, Machines, communication
from openrayzer.planning.gpu_rates import Gpu
from openrayzer.planning.memory import sent_bytes
from openrayzer.planning.optimizer_state import ADAM
from openrayzer.planning.roofline import optimizer_bytes
from openrayzer.training.deepspeed_config import load_deepspeed_config

_CALLS = 8  # measured all-reduces


@dataclass(frozen=True)
class PlannedStep:
    """One number of ranks.

    Attributes:
        ranks: number of processes.
        measured: processor time of a step in seconds, the median.
        planned: the same by the plan.
        waited: seconds of ``planned`` that are communication.
        link: bytes a second through the link of a rank, in a collective.
    """

    ranks: int
    measured: float
    planned: float
    waited: float
    link: float

    @property
    def error(self) -> float:
        """Relative error of the plan."""
        return self.planned / self.measured - 1


def planned_seconds(one: float, two: float, *, optimizer: float, sent: Communication) -> tuple[float, float]:
    """Planned seconds of a step, and the seconds of communication in them.

    Args:
        one: seconds of a step on one rank.
        two: the same with twice the clips.
        optimizer: time of the optimizer, relative to that on one rank.
        sent: the communication of a step.
    """
    clips, rest = two - one, 2 * one - two
    waited = sent.waited(clips, micro_batches=1, overlap=False)
    return clips + max(rest, 0.0) * optimizer + waited, waited


def planned_steps(
    experiment: Path,
    numbers: Sequence[int],
    *,
    clips: int,
    overrides: Sequence[str],
    rounds: int,
    steps: int,
    warm_up: int,
) -> list[PlannedStep]:
    """Measure and plan steps of one micro-batch on several numbers of ranks.

    Args:
        experiment: experiment file.
        numbers: numbers of ranks.
        clips: clips of each rank.
        overrides: changes of the experiment.
        rounds: number of rounds, in which all sides train in turn.
        steps: optimizer steps of a side in a round.
        warm_up: steps before the measured ones.
    """

    def side(ranks: int, batch: int) -> TrainingSide:
        changes = (*overrides, "train.accumulation=1", f"train.batch_size={batch}")
        return TrainingSide(
            name=f"{ranks} rank(s), {batch} clips", experiment=experiment, overrides=changes, ranks=ranks,
            clips="noise", threads=1,
        )  # fmt: skip

    sides = [side(1, clips), side(1, 2 * clips), *(side(ranks, ranks * clips) for ranks in numbers)]
    one, two, *several = (
        speed.processor.median for speed in measure(sides, rounds=rounds, steps=steps, warm_up=warm_up)
    )
    found = []
    for ranks, measured in zip(numbers, several, strict=True):
        model, config = _model_and_config(side(ranks, ranks * clips))
        link = link_rate(ranks, sent_bytes(model, config))
        machines = Machines(replace(_CPU, link=link / LINK_SHARE), ranks, per_node=ranks)
        stage = config["zero_optimization"]["stage"]
        sent = communication(model, config, machines, stage=stage, micro_batches=1)
        optimizer = optimizer_bytes(ADAM, 1, ranks) / optimizer_bytes(ADAM, 1, 1)
        planned, waited = planned_seconds(one, two, optimizer=optimizer, sent=sent)
        found.append(PlannedStep(ranks, measured, planned, waited, link))
    return found


def link_rate(ranks: int, size: int) -> float:
    """Bytes that a rank moves through its link in a second of processor time, in an all-reduce by gloo.

    An all-reduce is a sum of parts and a gathering of parts, and each moves (n - 1) / n of the bytes.

    Args:
        ranks: number of processes.
        size: bytes of the all-reduce.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = multiprocessing.get_context("spawn").SimpleQueue()
    multiprocessing.spawn(_reduce, (ranks, port, size, answers), nprocs=ranks)
    slowest = max(answers.get() for _ in range(ranks))
    return 2 * (ranks - 1) / ranks * size / slowest


def _reduce(rank: int, ranks: int, port: int, size: int, answers: "SimpleQueue[float]") -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    values, seconds = torch.ones(size // 4), []
    for _ in range(_CALLS + 1):
        dist.barrier()
        begin = time.process_time()
        dist.all_reduce(values)
        dist.barrier()
        seconds.append(time.process_time() - begin)
    answers.put(sorted(seconds[1:])[_CALLS // 2])
    dist.destroy_process_group()


def planned_table(found: Sequence[PlannedStep]) -> list[str]:
    """The steps as lines of text."""
    lines = [f"{'ranks':>5}{'measured, ms':>14}{'planned, ms':>13}{'waiting':>12}{'error':>8}{'link, GB/s':>12}"]
    return lines + [
        f"{one.ranks:>5}{1000 * one.measured:>14,.0f}{1000 * one.planned:>13,.0f}{one.waited / one.planned:>12.0%}"
        f"{one.error:>+8.1%}{one.link / 1e9:>12.2f}"
        for one in found
    ]


_CPU = Gpu("a CPU core", bandwidth=1e10, bf16=1e11, tf32=1e11, float32=1e11, memory=1e10, link=1e9)
"""Only ``link`` matters here."""


def _model_and_config(side: TrainingSide) -> tuple[Any, dict[str, Any]]:
    with torch.device("meta"):
        experiment = load_experiment(side.experiment, overrides=side.overrides).build()
    return experiment.model, load_deepspeed_config(experiment.deepspeed, experiment.train, world_size=side.ranks)
