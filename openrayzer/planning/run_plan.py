"""Settings of DeepSpeed that a number of GPUs allows, with their estimated time and memory. Nothing is timed."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

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
        micro_batch: clips of a micro-batch on each GPU.
        accumulation: micro-batches of an optimizer step.
        memory: bytes on each GPU.
        compute: seconds of computation of an optimizer step.
        waited: seconds of an optimizer step in which computation waits for communication.
    """

    stage: int
    recomputed: bool
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
        fitting: those that fit into the memory of a GPU; the fastest first, of equals the one with the least memory.
        too_large: the others, the smallest first.
        notes: what could not be estimated.
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
    """A quantity that grows in proportion to the clips of a micro-batch, beside a constant part."""

    constant: float
    each: float

    def at(self, clips: int) -> float:
        return self.constant + self.each * clips


def plan_run(setting: Setting, machines: Machines) -> RunPlan:
    """Estimate every ZeRO stage, micro-batch and choice of recomputation that keeps the batch of the experiment.

    Activations and computation of a micro-batch are traced for one and for two clips and continued in proportion.

    Args:
        setting: the experiment; its micro-batch, ranks and stage do not matter.
        machines: the GPUs.
    """
    train = setting.experiment.train
    shape = clip_shapes(setting.experiment.data.view_sampler, steps=train.steps)[-1]
    notes: list[str] = []
    choices: list[Choice] = []
    if train.batch_size % machines.gpus:
        notes.append(_other_batches(train.batch_size, machines.gpus))
    else:
        for recomputed in recomputations(setting.experiment.model):
            try:
                peak, seconds = _traced(setting, shape, machines)
            except Exception as error:  # models and losses may come from plugins, and this is only an estimate
                notes.append(f"{kind_of(recomputed)}: not estimated ({reason(error)})")
                continue
            choices += _choices(setting, machines, peak, seconds, recomputed=recomputed)
    limit = (1 - RESERVED) * machines.gpu.memory
    every = train.checkpoint_every or train.steps
    return RunPlan(
        tuple(sorted((one for one in choices if one.memory <= limit), key=lambda one: (one.seconds, one.memory))),
        tuple(sorted((one for one in choices if one.memory > limit), key=lambda one: one.memory)),
        tuple(notes), train.steps, train.batch_size, shape.views,
        checkpoint_bytes(setting.trained, setting.deepspeed, averaged=setting.averaged, state=setting.state),
        -(-train.steps // every),
    )  # fmt: skip


def _choices(setting: Setting, machines: Machines, peak: _Line, seconds: _Line, *, recomputed: bool) -> list[Choice]:
    model, deepspeed = setting.trained, setting.deepspeed
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    overlap = bool(deepspeed.get("zero_optimization", {}).get("overlap_comm", False))
    of_gpu = setting.experiment.train.batch_size // machines.gpus
    found = []
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
            waited = sent.waited(seconds.at(clips), micro_batches=times, overlap=overlap)
            compute = times * seconds.at(clips) + optimizer
            found.append(Choice(stage, recomputed, clips, times, fixed + peak.at(clips), compute, waited))
    return found


def _traced(setting: Setting, shape: ClipShape, machines: Machines) -> tuple[_Line, _Line]:
    """Bytes of activations and seconds of a micro-batch by its clips."""
    experiment = setting.experiment
    model, losses = experiment.model, [term.loss for term in experiment.loss if term.weight > 0]
    peaks, times = [], []
    for clips in (1, 2):
        operations = Operations(nn.ModuleList([model, *losses]))
        cost = trace_micro_batch(
            model, shape, experiment.data.image_size, batch=clips, bf16=setting.bf16, losses=losses,
            objective=experiment.train.objective, watching=operations,
        )  # fmt: skip
        time = roofline(
            operations.recorded, gpu=machines.gpu, compiled=experiment.train.compile is not False,
            tf32=setting.bf16 and experiment.train.tf32, results=operations.results,
        )  # fmt: skip
        peaks.append(float(cost.peak))
        times.append(time.seconds)
    return _line(peaks), _line(times)


def _line(values: Sequence[float]) -> _Line:
    each = values[1] - values[0]
    return _Line(values[0] - each, each)


def _other_batches(batch: int, gpus: int) -> str:
    """Numbers of GPUs that divide the batch, and batches that the GPUs divide."""
    fitting = [number for number in range(1, gpus + 1) if batch % number == 0]
    below, above = batch // gpus * gpus, -(-batch // gpus) * gpus
    batches = " or ".join(str(one) for one in (below, above) if one)
    return (
        f"train.batch_size {batch} cannot be divided among {gpus} GPUs; take --gpus {fitting[-1]}, or train.batch_size "
        f"{batches}"
    )
