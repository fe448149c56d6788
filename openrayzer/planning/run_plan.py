"""Settings of DeepSpeed that a number of GPUs allows, with their estimated time and memory. Nothing is timed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from openrayzer.interfaces import InputError, concerning
from openrayzer.planning.clip_shapes import ClipShape, clip_shapes
from openrayzer.planning.communication import Machines, communication
from openrayzer.planning.cost_report import STAGES, Setting, kind_of, reason, recomputations
from openrayzer.planning.memory import checkpoint_bytes, memory
from openrayzer.planning.operations import Operations
from openrayzer.planning.roofline import roofline
from openrayzer.planning.trace import trace_micro_batch

RESERVED = 0.08
"""Share of a GPU's memory for the CUDA context, NCCL, workspaces and fragmentation; an assumption."""
DISK = 2e9
"""Bytes a second that a node writes to shared storage; an assumption."""


@dataclass(frozen=True)
class Choice:
    """One way to train on the GPUs.

    Attributes:
        stage: ZeRO stage.
        recomputed: whether the backward pass recomputes activations.
        shared: number of GPUs that share each clip, ``train.sequence_parallel``.
        micro_batch: clips of a micro-batch on each GPU; GPUs that share clips have the same ones.
        accumulation: micro-batches of an optimizer step.
        memory: bytes on each GPU.
        compute: seconds of computation of an optimizer step.
        waited: seconds of an optimizer step in which computation waits for communication.
    """

    stage: int
    recomputed: bool
    shared: int
    micro_batch: int
    accumulation: int
    memory: float
    compute: float
    waited: float

    @property
    def seconds(self) -> float:
        """Seconds of an optimizer step."""
        return self.compute + self.waited


@dataclass(frozen=True)
class RunPlan:
    """All choices for a number of GPUs.

    Attributes:
        fitting: those that fit into the memory of a GPU, the fastest first; of equally fast ones, the smallest first.
        too_large: the others, the smallest first.
        notes: the reasons why choices have no estimate.
        steps: optimizer steps of the run.
        batch: clips of an optimizer step.
        views: views of the largest clip.
        checkpoint: bytes of a checkpoint.
        checkpoints: number of checkpoints of the run.
    """

    fitting: tuple[Choice, ...]
    too_large: tuple[Choice, ...]
    notes: tuple[str, ...]
    steps: int
    batch: int
    views: int
    checkpoint: int
    checkpoints: int

    def gpu_hours(self, choice: Choice, machines: Machines) -> float:
        """GPU hours of the whole run, checkpoints included, without evaluations."""
        seconds = self.steps * choice.seconds + self.checkpoints * self.checkpoint_seconds(machines)
        return seconds * machines.gpus / 3600

    def checkpoint_seconds(self, machines: Machines) -> float:
        """Seconds for which training waits for a checkpoint; each node writes its part."""
        return self.checkpoint / machines.nodes / DISK


@dataclass(frozen=True)
class _Line:
    """A constant, and a part in proportion to the clips of a micro-batch."""

    constant: float
    each: float

    def at(self, clips: int) -> float:
        return self.constant + self.each * clips


@dataclass(frozen=True)
class _Traced:
    """A micro-batch by its clips: bytes of activations, seconds of computation, seconds of exchanges."""

    peak: _Line
    seconds: _Line
    exchanged: _Line


def plan_run(setting: Setting, machines: Machines) -> RunPlan:
    """Estimate every ZeRO stage, micro-batch and choice of recomputation that keeps the batch of the experiment.

    If none of them fits into a GPU with all activations kept, 2 GPUs of a node share each clip, then 4, and so on.
    Activations, computation and exchanges of a micro-batch are traced for one and for two clips and continued in
    proportion.

    Args:
        setting: the experiment; its micro-batch, ranks, stage and ``train.sequence_parallel`` do not matter.
        machines: the GPUs.
    """
    train = setting.experiment.train
    shape = clip_shapes(setting.experiment.data.view_sampler, steps=train.steps)[-1]
    limit = (1 - RESERVED) * machines.gpu.memory
    notes: list[str] = []
    choices: list[Choice] = []
    for shared in _shared_by(machines):
        try:
            choices += _choices(setting, machines, shape, notes, shared=shared)
        except InputError as error:
            notes.append(str(error))
        if any(one.memory <= limit and not one.recomputed for one in choices):
            break
    every = train.checkpoint_every or train.steps
    return RunPlan(
        tuple(sorted((one for one in choices if one.memory <= limit), key=lambda one: (one.seconds, one.memory))),
        tuple(sorted((one for one in choices if one.memory > limit), key=lambda one: one.memory)),
        tuple(notes), train.steps, train.batch_size, shape.views,
        checkpoint_bytes(setting.trained, setting.deepspeed, averaged=setting.averaged, state=setting.state),
        -(-train.steps // every),
    )  # fmt: skip


def _shared_by(machines: Machines) -> Iterator[int]:
    """Numbers of GPUs that may share a clip: those that divide the GPUs of each node."""
    of_node = math.gcd(machines.gpus, machines.per_node)
    return (number for number in range(1, of_node + 1) if of_node % number == 0)


def _choices(
    setting: Setting, machines: Machines, shape: ClipShape, notes: list[str], *, shared: int
) -> Iterator[Choice]:
    """All choices in which ``shared`` GPUs share each clip.

    Raises:
        InputError: the experiment does not allow this number.
    """
    train = setting.experiment.train
    groups = machines.gpus // shared
    if train.batch_size % groups:
        raise InputError(_other_batches(train.batch_size, machines.gpus, shared))
    if shared > 1:
        with concerning("train.sequence_parallel"):
            setting.experiment.check_sharing(shared)
    for recomputed in recomputations(setting.experiment.model):
        try:
            traced = _traced(setting, shape, machines, shared)
        except InputError:
            raise
        except Exception as error:  # models and losses may come from plugins, and this is only an estimate
            notes.append(f"{kind_of(recomputed)}: not estimated ({reason(error)})")
            continue
        yield from _batches(setting, machines, traced, train.batch_size // groups, recomputed=recomputed, shared=shared)


def _batches(
    setting: Setting, machines: Machines, traced: _Traced, of_gpu: int, *, recomputed: bool, shared: int
) -> Iterator[Choice]:
    """A choice for each ZeRO stage and micro-batch; ``of_gpu`` is the number of clips of a GPU in a step."""
    model, deepspeed = setting.trained, setting.deepspeed
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    overlap = bool(deepspeed.get("zero_optimization", {}).get("overlap_comm", False))
    for stage in STAGES:
        fixed = memory(
            model, deepspeed, ranks=machines.gpus, stage=stage, averaged=setting.averaged, state=setting.state
        ).total
        for clips in (clips for clips in range(1, of_gpu + 1) if of_gpu % clips == 0):
            times = of_gpu // clips
            optimizer = roofline(
                [], gpu=machines.gpu, compiled=False, tf32=False, micro_batches=times,
                weights=trainable, ranks=machines.gpus, state=setting.state,
            ).seconds  # fmt: skip
            sent = communication(model, deepspeed, machines, stage=stage, micro_batches=times)
            seconds = traced.seconds.at(clips)
            waited = sent.waited(seconds, micro_batches=times, overlap=overlap) + times * traced.exchanged.at(clips)
            yield Choice(
                stage, recomputed, shared, clips, times, fixed + traced.peak.at(clips), times * seconds + optimizer,
                waited,
            )  # fmt: skip


def _traced(setting: Setting, shape: ClipShape, machines: Machines, shared: int) -> _Traced:
    experiment = setting.experiment
    model, losses = experiment.model, [term.loss for term in experiment.loss if term.weight > 0]
    peaks, times, exchanges = [], [], []
    for clips in (1, 2):
        operations = Operations(nn.ModuleList([model, *losses]))
        cost = trace_micro_batch(
            model, shape, experiment.data.image_size, batch=clips, bf16=setting.bf16, losses=losses,
            objective=experiment.train.objective, processes=shared, watching=operations,
        )  # fmt: skip
        time = roofline(
            operations.recorded, gpu=machines.gpu, compiled=experiment.train.compile is not False,
            tf32=setting.bf16 and experiment.train.tf32, results=operations.results,
        )  # fmt: skip
        peaks.append(float(cost.peak))
        times.append(time.seconds)
        exchanges.append(cost.sent / machines.rate_among(shared))
    return _Traced(_line(peaks), _line(times), _line(exchanges))


def _line(values: Sequence[float]) -> _Line:
    each = values[1] - values[0]
    return _Line(values[0] - each, each)


def _other_batches(batch: int, gpus: int, shared: int) -> str:
    """Numbers of GPUs that divide the batch, and batches that the GPUs divide."""
    groups = gpus // shared
    fitting = max(number for number in range(1, groups + 1) if batch % number == 0)
    below, above = batch // groups * groups, -(-batch // groups) * groups
    batches = " or ".join(str(one) for one in (below, above) if one)
    among = f"{gpus} GPUs" if shared == 1 else f"{groups} groups of {shared} GPUs"
    return (
        f"train.batch_size {batch} cannot be divided among {among}; take --gpus {fitting * shared}, or "
        f"train.batch_size {batches}"
    )
