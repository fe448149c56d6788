"""Speed and memory of training steps, of one experiment or of two, measured alternately."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from openrayzer.benchmarks.matmul_speed import products_rate, square_rate, step_work
from openrayzer.benchmarks.timing import Timing
from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.planning.clip_shapes import clip_shapes

_WORKER = "openrayzer/benchmarks/training_worker.py"
_HERE = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class TrainingSide:
    """A training to measure.

    Args:
        name: name in the table.
        experiment: experiment file.
        overrides: changes of the experiment, as ``--set`` takes them.
        data: folders of chunks that replace the sources of the experiment.
        engine: "deepspeed", as in training, or "ddp", torch's DistributedDataParallel.
        ranks: number of processes.
        clips: "data" loads clips as training does; "noise" needs no data and no loading time.
        largest_batch: whether a micro-batch has as many clips of noise as fit into a GPU, instead of the
            experiment's number.
        threads: threads of each process; 0 divides the cores among the processes.
        source: folder of the package to measure; its own ``training_worker.py`` runs.

    Raises:
        InputError: ``largest_batch`` does not go with the other arguments, or there is no GPU.
    """

    name: str
    experiment: Path
    overrides: tuple[str, ...] = ()
    data: tuple[Path, ...] = ()
    engine: str = "deepspeed"
    ranks: int = 1
    clips: str = "data"
    largest_batch: bool = False
    threads: int = 0
    source: Path = _HERE

    def __post_init__(self) -> None:
        plain = (self.clips, self.ranks, self.engine, self.source) == ("noise", 1, "deepspeed", _HERE)
        if self.largest_batch and not plain:
            raise InputError("--largest_batch needs --clips noise, one process and no --against")
        if self.largest_batch and not torch.cuda.is_available():
            raise InputError(
                "--largest_batch needs a GPU: on a CPU, the system kills a process that takes too much memory"
            )


@dataclass(frozen=True)
class StepSpeed:
    """Measurements of one side.

    Attributes:
        name: name of the side.
        weights: number of weights.
        device: type of the device.
        batch: clips of a micro-batch on one rank.
        step: seconds of an optimizer step on the slowest rank.
        processor: processor time of all threads of a rank in a step, which does not depend on other load.
        views_per_second: training views over all ranks, at the median step.
        parts: seconds of each part of a step on rank 0; communication happens within the other parts.
        maps: seconds of estimate, reconstruct and render, forward without gradients.
        data_wait: share of the step that waits for data, from 0 to 1.
        state_bytes: largest bytes on a rank of gradients and the optimizer's tensors, between backward and step.
        copied_bytes: bytes among them of copied weights, for an optimizer that divides the weights.
        peak_bytes: largest peak memory of a rank; on a CPU of the whole process with its libraries.
        flops: floating point operations of one optimizer step on one rank.
        loss: loss of the last step on rank 0.
    """

    name: str
    weights: int
    device: str
    batch: int
    step: Timing
    processor: Timing
    views_per_second: float
    parts: Mapping[str, float]
    maps: Mapping[str, float]
    data_wait: float
    state_bytes: int
    copied_bytes: int
    peak_bytes: int
    flops: int
    loss: float

    @property
    def rate(self) -> float:
        """FLOP/s of one rank at the median step."""
        return self.flops / self.step.median


@dataclass(frozen=True)
class Rates:
    """FLOP/s of bare bf16 matrix products on one rank's share of the device.

    Attributes:
        square: rate of large square products.
        own_shapes: rate of the products of the model's step.
        per_processor: operations of the products of the step for each second of processor time; for a CPU.
    """

    square: float
    own_shapes: float
    per_processor: float


@dataclass
class _Measured:
    steps: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    views: int = 0
    last: Sequence[Mapping[str, Any]] = ()

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add one answer of every rank."""
        self.steps += [max(step) for step in zip(*(line["steps"] for line in lines), strict=True)]
        self.processor += [max(step) for step in zip(*(line["processor"] for line in lines), strict=True)]
        for name, seconds in lines[0]["parts"].items():
            self.parts[name] = self.parts.get(name, 0.0) + seconds
        self.views += lines[0]["views"]
        self.last = lines


def measure(sides: Sequence[TrainingSide], *, rounds: int, steps: int, warm_up: int = 3) -> list[StepSpeed]:
    """Train the sides alternately, each for ``steps`` optimizer steps in a round. All sides stay in memory.

    Raises:
        InputError: a side cannot be built or cannot run on this machine.
    """
    if min(rounds, steps) < 1 or warm_up < 2:
        raise InputError("rounds and steps must be 1 or more, warm_up 2 or more")
    with ExitStack() as stack:
        groups = [
            stack.enter_context(_Workers.started(side, warm_up)) for side in sides
        ]  # they start one after the other
        measured = [_Measured() for _ in sides]
        for _ in range(rounds):
            for group, found in zip(groups, measured, strict=True):
                found.add(group.train(steps))
    return [_speed(side, group.described, found) for side, group, found in zip(sides, groups, measured, strict=True)]


def rates(side: TrainingSide, *, batch: int = 0, rounds: int = 3) -> Rates:
    """Rates of bare matrix products, measured in this process with the threads of one rank, while no side trains.

    Args:
        side: the side; its step gives the shapes of the products.
        batch: clips of a micro-batch on one rank; 0 takes the experiment's number.
        rounds: number of measurements; the minimum time counts.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(_threads(side.ranks))
    try:
        products = work_of(side, batch=batch).products
        own = products_rate(products, device=device, dtype=torch.bfloat16, rounds=rounds)
        busy = products_rate(products, device=device, dtype=torch.bfloat16, rounds=rounds, clock=time.process_time)
        return Rates(square_rate(device=device, dtype=torch.bfloat16), own, busy)
    finally:
        torch.set_num_threads(before)


def work_of(side: TrainingSide, *, batch: int = 0) -> Any:
    """The computation of one micro-batch of ``batch`` clips on a rank; 0 takes the experiment's number."""
    overrides = [*side.overrides, 'model.attention={"type": "reference"}']
    with torch.device("meta"):
        experiment = load_experiment(side.experiment, overrides=overrides, data_roots=side.data).build()
    settings = experiment.train
    shape = clip_shapes(experiment.data.view_sampler, steps=settings.steps)[-1]
    batch = batch or settings.batch_size // (side.ranks * settings.accumulation)
    return step_work(experiment.model, shape, experiment.data.image_size, batch=batch)


class _Workers:
    """The processes of one side. Each reads requests and writes answers line by line."""

    def __init__(self, side: TrainingSide, processes: Sequence[subprocess.Popen[str]], errors: IO[str]) -> None:
        self.side, self.processes, self.errors = side, processes, errors
        self.described: Mapping[str, Any] = self._answers()[0]

    @classmethod
    @contextmanager
    def started(cls, side: TrainingSide, warm_up: int) -> Iterator["_Workers"]:
        worker = side.source / _WORKER
        if not worker.is_file():
            raise InputError(f"{side.name} cannot be measured: it has no {_WORKER}")
        request = {
            "experiment": str(side.experiment),
            "set": list(side.overrides),
            "data": [str(root) for root in side.data],
            "engine": side.engine,
            "clips": side.clips,
            "largest_batch": side.largest_batch,
            "warm_up": warm_up,
        }
        command = [sys.executable, "-P", str(worker), json.dumps(request)]  # -P: no imports from the script's folder
        with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
            processes = [
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                    env=os.environ | environment,
                )
                for environment in _environments(side)
            ]  # fmt: skip
            try:
                yield cls(side, processes, errors)
                for process in processes:
                    process.communicate()
            finally:
                for process in processes:
                    process.kill()
                    process.wait()

    def train(self, steps: int) -> list[dict[str, Any]]:
        """Train for some steps; returns the answers of all ranks."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        answers = self._answers()
        if "processor" not in answers[0]:  # the worker of an old commit
            raise InputError(f"{self.side.name} cannot be measured: its worker reports no processor time")
        return answers

    def _answers(self) -> list[dict[str, Any]]:
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_lines()}
            if "error" in answer:
                raise InputError(f"{self.side.name} cannot be measured: {answer['error']}")
            answers.append(answer)
        return answers

    def _last_lines(self) -> str:
        self.errors.seek(0)
        return "its process ended:\n" + "".join(self.errors.readlines()[-20:])


def _environments(side: TrainingSide) -> Iterator[dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    for rank in map(str, range(side.ranks)):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(side.ranks), "LOCAL_WORLD_SIZE": str(side.ranks)}
        yield ranks | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "PYTHONPATH": str(side.source),
            "OMP_NUM_THREADS": str(side.threads or _threads(side.ranks)),
        }


def _threads(ranks: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def _speed(side: TrainingSide, described: Mapping[str, Any], found: _Measured) -> StepSpeed:
    count, step = len(found.steps), Timing.of(found.steps)
    accumulation = load_experiment(side.experiment, overrides=side.overrides, data_roots=side.data).resolved["train"]
    return StepSpeed(
        name=side.name,
        weights=described["weights"],
        device=described["device"],
        batch=described["batch"],
        step=step,
        processor=Timing.of(found.processor),
        views_per_second=found.views / count / step.median,
        parts={name: seconds / count for name, seconds in found.parts.items()},
        maps=described["maps"],
        data_wait=found.parts["data"] / sum(found.steps),
        state_bytes=max(line["state_bytes"] for line in found.last),
        copied_bytes=max(line["copied_bytes"] for line in found.last),
        peak_bytes=max(line["peak_bytes"] for line in found.last),
        flops=work_of(side, batch=described["batch"]).flops * int(accumulation["accumulation"]),
        loss=found.last[0]["losses"][-1],
    )
