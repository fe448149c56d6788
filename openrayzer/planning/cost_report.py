"""The estimates for a person, as lines of text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from openrayzer.layers.stack import Stack, checkpoint_activations
from openrayzer.planning.clip_shapes import ClipShape, clip_shapes
from openrayzer.planning.data_volume import DataVolume
from openrayzer.planning.flops import BACKWARD_COST, count_flops
from openrayzer.planning.memory import checkpoint_bytes, memory
from openrayzer.planning.trace import Device, MicroBatchCost, trace_micro_batch
from openrayzer.settings import Experiment

STAGES = (1, 2, 3)
_DEVICES = {
    "cuda": "a GPU: CUDA's autocast, blocks of PyTorch's allocator, workspaces of cuBLAS; --device cpu plans for a CPU",
    "cpu": "a CPU; --device cuda plans for a GPU",
}


@dataclass(frozen=True)
class Setting:
    """How an experiment would run.

    Attributes:
        experiment: built on ``meta``.
        deepspeed: DeepSpeed's configuration.
        ranks: processes.
        micro_batch: clips at once on each of them.
        device: of each process; it decides how autocast and the allocator are modelled.
    """

    experiment: Experiment
    deepspeed: Mapping[str, Any]
    ranks: int
    micro_batch: int
    device: Device = "cuda"

    @property
    def stage(self) -> int:
        """ZeRO stage."""
        return int(self.deepspeed.get("zero_optimization", {}).get("stage", 0))

    @property
    def bf16(self) -> bool:
        """Whether products are computed in bfloat16."""
        return any(bool(self.deepspeed.get(key, {}).get("enabled")) for key in ("bf16", "torch_autocast"))

    @property
    def averaged(self) -> bool:
        """Whether a moving average of the weights is kept."""
        return self.experiment.train.ema_decay > 0


def parameter_lines(model: nn.Module) -> list[str]:
    """Parameters of each direct child, of the model itself, and in total; weights used twice count once."""
    rows = [(name, list(child.parameters())) for name, child in model.named_children()]
    rows.append(("(itself)", list(model.parameters(recurse=False))))
    rows.append(("total", list(model.parameters())))
    lines = ["parameters"]
    for name, weights in rows:
        count = sum(weight.numel() for weight in weights)
        frozen = sum(weight.numel() for weight in weights if not weight.requires_grad)
        if count or name == "total":
            lines.append(f"  {name:<24}{count:>16,}" + (f"  ({frozen:,} frozen)" if frozen else ""))
    return lines


def cost_lines(setting: Setting) -> list[str]:
    """Computation, memory and checkpoints; or why something could not be counted."""
    try:
        shapes = clip_shapes(setting.experiment.data.view_sampler, steps=setting.experiment.train.steps)
        computation = flop_lines(setting.experiment, shapes)
    except Exception as error:  # samplers and models may be foreign code, and this is only an estimate
        return [f"computation: not counted ({reason(error)})", *memory_lines(setting, {}), *checkpoint_lines(setting)]
    traces, notes = _traces(setting, shapes[-1])
    return [*computation, *memory_lines(setting, traces), *notes, *checkpoint_lines(setting)]


def flop_lines(experiment: Experiment, shapes: list[ClipShape]) -> list[str]:
    """One clip forward, one optimizer step."""
    flops, batch = count_flops(experiment), experiment.train.batch_size
    smallest, largest = shapes[0], shapes[-1]
    varies = "" if len(shapes) == 1 else f", the largest of {len(shapes)} shapes from {smallest.views} views on"
    return [
        "computation, without losses and recomputed activations",
        f"  one clip forward        {_flops(flops.clip)}  "
        f"({largest.context} context views, {largest.target} target views{varies})",
        f"  one optimizer step      {_flops(flops.step)}  ({batch} clips, {1 + BACKWARD_COST} x forward)",
    ]


def memory_lines(setting: Setting, traces: Mapping[bool, MicroBatchCost]) -> list[str]:
    """A row for each ZeRO stage, and what activations add with and without recomputation."""
    ranks, clips = setting.ranks, setting.micro_batch
    lines = [
        f"memory on each of {ranks} rank(s) in GiB, {clips} clip(s) at once; the stage of this experiment has a *",
        f"  {'':<8}{'weights':>10}{'gradients':>11}{'optimizer':>11}{'buffers':>9}{'sum':>9}"
        + "".join(f"{f'+ {_kind(again)}':>16}" for again in traces),
    ]
    for stage in STAGES:
        needed = memory(
            setting.experiment.model, setting.deepspeed, ranks=ranks, stage=stage, averaged=setting.averaged
        )
        numbers = (needed.weights, needed.gradients, needed.optimizer, needed.buffers, needed.total)
        widths = (10, 11, 11, 9, 9)
        row = "".join(f"{_gib(number):>{width}}" for number, width in zip(numbers, widths, strict=True))
        row += "".join(f"{_gib(needed.total + trace.peak):>16}" for trace in traces.values())
        lines.append(f"  ZeRO {stage}{'*' if stage == setting.stage else ' '} {row}")
    for again, trace in traces.items():
        lines.append(
            f"  {_kind(again)}: activations up to {_gib(trace.peak)} GiB, {_flops(trace.total).strip()} a micro-batch"
        )
    if traces:
        lines.append(f"  activations as on {_DEVICES[setting.device]}")
    return [*lines, *_offloaded(setting.deepspeed)]


def checkpoint_lines(setting: Setting) -> list[str]:
    """One checkpoint, and all that are kept."""
    train = setting.experiment.train
    size = checkpoint_bytes(setting.experiment.model, setting.deepspeed, averaged=setting.averaged)
    kept = train.keep_checkpoints + 1  # the new one is complete before an old one goes
    return [f"checkpoints               {_gib(size)} GiB each, up to {_gib(kept * size)} GiB at once"]


def data_lines(setting: Setting, volume: DataVolume | None) -> list[str]:
    """What goes through the loader, and what is read for it if that was measured."""
    experiment, batch = setting.experiment, setting.experiment.train.batch_size
    try:
        views = clip_shapes(experiment.data.view_sampler, steps=experiment.train.steps)[-1].views
    except Exception as error:  # as above
        return [f"data: not counted ({reason(error)})"]
    height, width = experiment.data.image_size
    decoded = batch * views * 3 * height * width
    lines = [f"data: {batch * views:,} images a step, {_gib(decoded)} GiB decoded in 8 bits"]
    if volume is not None and volume.read is not None:
        epochs = experiment.train.steps * batch / volume.epoch
        lines.append(
            f"  read from the sources   {volume.read / 1e6:.2f} MB a clip (mean of {volume.clips}), "
            f"{volume.read * batch / 1e6:,.1f} MB a step, {volume.read * volume.epoch / 1e9:,.1f} GB an epoch of "
            f"{volume.epoch:,} clips; the run is {epochs:,.1f} epochs"
        )
    return lines


def _traces(setting: Setting, shape: ClipShape) -> tuple[dict[bool, MicroBatchCost], list[str]]:
    """Activations without and with recomputation, where the model can do both; and what is missing, as notes."""
    model, size = setting.experiment.model, setting.experiment.data.image_size
    losses = [term.loss for term in setting.experiment.loss if term.weight > 0]
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    traces: dict[bool, MicroBatchCost] = {}
    notes: list[str] = []
    for again in (False, True) if stacks else (False,):
        before = [stack.checkpoint_every for stack in stacks]
        checkpoint_activations(model, every=max([1, *before]) if again else 0)
        for counted, what in ((losses, "the losses"), ([], "activations")):
            try:
                traces[again] = trace_micro_batch(
                    model, shape, size, batch=setting.micro_batch, bf16=setting.bf16, losses=counted,
                    device=setting.device,
                )  # fmt: skip
                break
            except Exception as error:  # as above: an operation may look at numbers, which are not there
                notes.append(f"  {_kind(again)}: {what} not counted ({reason(error)})")
        for stack, every in zip(stacks, before, strict=True):
            stack.checkpoint_every = every
    return traces, notes


def _offloaded(deepspeed: Mapping[str, Any]) -> list[str]:
    zero = deepspeed.get("zero_optimization", {})
    aside = {name: zero.get(f"offload_{name}") for name in ("optimizer", "param")}
    return [
        f"  {name}: offloaded to {section['device']}, so not in the device's memory"
        for name, section in aside.items()
        if isinstance(section, dict) and section.get("device", "none") != "none"
    ]


def _kind(again: bool) -> str:
    return "recomputed" if again else "all kept"


def reason(error: Exception) -> str:
    """Why something could not be counted, in one line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _gib(count: float) -> str:
    return f"{count / 2**30:,.2f}" if count >= 2**30 / 200 or count == 0 else f"{count / 2**30:,.5f}"


def _flops(count: float) -> str:
    power = min(max(len(str(int(count))) - 1, 0) // 3, 5)
    return f"{count / 1000**power:>12,.1f} {' kMGTP'[power].strip()}FLOP"
