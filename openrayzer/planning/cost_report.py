"""The estimated costs of an experiment as lines of text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from openrayzer.layers.stack import checkpoint_activations, recomputing
from openrayzer.planning.clip_shapes import ClipShape, clip_shapes
from openrayzer.planning.data_volume import DataVolume
from openrayzer.planning.flops import BACKWARD_COST, count_flops
from openrayzer.planning.memory import checkpoint_bytes, memory
from openrayzer.planning.optimizer_state import ADAM, state_bytes
from openrayzer.planning.trace import Device, MicroBatchCost, trace_micro_batch
from openrayzer.settings import Experiment

STAGES = (1, 2, 3)
_DEVICES = {
    "cuda": "a GPU, with CUDA's autocast, PyTorch's allocator and cuBLAS's workspaces; --device cpu plans for a CPU",
    "cpu": "a CPU; --device cuda plans for a GPU",
}


@dataclass(frozen=True)
class Setting:
    """An experiment and the processes that would train it.

    Attributes:
        experiment: the experiment, built on ``meta``.
        deepspeed: DeepSpeed's configuration.
        ranks: number of processes.
        micro_batch: clips of a micro-batch on each rank.
        device: device of each rank. It decides how autocast and the allocator are modelled.
    """

    experiment: Experiment
    deepspeed: Mapping[str, Any]
    ranks: int
    micro_batch: int
    device: Device = "cuda"

    @property
    def trained(self) -> nn.Module:
        """The model together with the objective, whose weights are trained and saved, too."""
        model, objective = self.experiment.model, self.experiment.train.objective
        return model if objective is None else nn.ModuleList([model, objective])

    @property
    def stage(self) -> int:
        """ZeRO stage."""
        return int(self.deepspeed.get("zero_optimization", {}).get("stage", 0))

    @property
    def bf16(self) -> bool:
        """Whether training multiplies matrices in bfloat16."""
        return any(bool(self.deepspeed.get(key, {}).get("enabled")) for key in ("bf16", "torch_autocast"))

    @property
    def averaged(self) -> bool:
        """Whether training keeps an exponential moving average of the weights."""
        return self.experiment.train.ema_decay > 0

    @property
    def state(self) -> float:
        """Bytes of optimizer state for each trainable weight; those of Adam if they are unknown."""
        return self._state_and_note[0]

    @property
    def state_note(self) -> str:
        """A sentence about the optimizer's state; empty if the optimizer keeps two averages, as Adam does."""
        return self._state_and_note[1]

    @cached_property
    def _state_and_note(self) -> tuple[float, str]:
        optimizer = self.experiment.train.optimizer
        name = type(optimizer).__name__
        try:
            found = state_bytes(optimizer, self.trained)
        except Exception as error:  # an optimizer may come from a plugin, and this is only an estimate
            assumed = f"assumed are {ADAM:g} bytes for each weight, as for Adam"
            return ADAM, f"  the state of the optimizer {name} is unknown ({reason(error)}); {assumed}"
        return found, "" if found == ADAM else f"  the optimizer {name} keeps {found:g} bytes for each weight"


def parameter_lines(model: nn.Module, objective: nn.Module | None = None) -> list[str]:
    """Numbers of parameters: of each direct child of the model, of the model itself, and in total; of the objective.

    Shared weights count once.
    """
    rows = [(name, list(child.parameters())) for name, child in model.named_children()]
    rows.append(("(itself)", list(model.parameters(recurse=False))))
    rows.append(("total", list(model.parameters())))
    lines = ["parameters"]
    for name, weights in rows:
        count = sum(weight.numel() for weight in weights)
        frozen = sum(weight.numel() for weight in weights if not weight.requires_grad)
        if count or name == "total":
            lines.append(f"  {name:<24}{count:>16,}" + (f"  ({frozen:,} frozen)" if frozen else ""))
    if objective is not None and (count := sum(weight.numel() for weight in objective.parameters())):
        lines.append(f"  {'objective':<24}{count:>16,}  (trained and saved beside the model)")
    return lines


def cost_lines(setting: Setting) -> list[str]:
    """Computation, memory and checkpoints. A note gives the reason for each number that is missing."""
    try:
        shapes = clip_shapes(setting.experiment.data.view_sampler, steps=setting.experiment.train.steps)
        computation = flop_lines(setting.experiment, shapes)
    except Exception as error:  # samplers and models may come from plugins, and this is only an estimate
        return [f"computation: not counted ({reason(error)})", *memory_lines(setting, {}), *checkpoint_lines(setting)]
    traces, notes = _traces(setting, shapes[-1])
    return [*computation, *memory_lines(setting, traces), *notes, *checkpoint_lines(setting)]


def flop_lines(experiment: Experiment, shapes: list[ClipShape]) -> list[str]:
    """Operations of one clip forward and of one optimizer step."""
    flops, batch = count_flops(experiment), experiment.train.batch_size
    smallest, largest = shapes[0], shapes[-1]
    others = f", the largest of {len(shapes)} shapes; the smallest has {smallest.views} views" * (len(shapes) > 1)
    return [
        "computation of matrix products, convolutions and attention, without losses and recomputed activations",
        f"  one clip forward        {_flops(flops.clip)}  "
        f"({largest.context} context views, {largest.target} target views{others})",
        f"  one optimizer step      {_flops(flops.step)}  ({batch} clips, {1 + BACKWARD_COST} x forward)",
    ]


def memory_lines(setting: Setting, traces: Mapping[bool, MicroBatchCost]) -> list[str]:
    """A row for each ZeRO stage, with and without recomputed activations."""
    ranks, clips, sharing = setting.ranks, setting.micro_batch, setting.experiment.train.sequence_parallel
    at_once = f"{clips} clip(s) at once" + f", each shared by {sharing} ranks" * (sharing > 1)
    lines = [
        f"memory on each of {ranks} rank(s) in GiB, {at_once}; * marks the stage of this experiment",
        f"  {'':<8}{'weights':>10}{'gradients':>11}{'optimizer':>11}{'buffers':>9}{'sum':>9}"
        + "".join(f"{f'+ {kind_of(again)}':>16}" for again in traces),
    ]
    for stage in STAGES:
        needed = memory(
            setting.trained,
            setting.deepspeed,
            ranks=ranks,
            stage=stage,
            averaged=setting.averaged,
            state=setting.state,
        )
        numbers = (needed.weights, needed.gradients, needed.optimizer, needed.buffers, needed.total)
        widths = (10, 11, 11, 9, 9)
        row = "".join(f"{_gib(number):>{width}}" for number, width in zip(numbers, widths, strict=True))
        row += "".join(f"{_gib(needed.total + trace.peak):>16}" for trace in traces.values())
        lines.append(f"  ZeRO {stage}{'*' if stage == setting.stage else ' '} {row}")
    lines += [setting.state_note] * bool(setting.state_note)
    for again, trace in traces.items():
        lines.append(
            f"  {kind_of(again)}: activations up to {_gib(trace.peak)} GiB, {_flops(trace.total).strip()} a micro-batch"
        )
    if traces:
        lines.append(f"  activations as on {_DEVICES[setting.device]}")
    if uncounted := sorted({name for trace in traces.values() for name in trace.uncounted}):
        lines.append(f"  computation without {', '.join(uncounted)}: there is no formula for operators outside PyTorch")
    return [*lines, *_offloaded(setting.deepspeed)]


def checkpoint_lines(setting: Setting) -> list[str]:
    """Size of one checkpoint, and of all checkpoints that the run keeps."""
    train = setting.experiment.train
    size = checkpoint_bytes(setting.trained, setting.deepspeed, averaged=setting.averaged, state=setting.state)
    kept = train.keep_checkpoints + 1  # the new checkpoint is complete before an old one is deleted
    return [f"checkpoints               {_gib(size)} GiB each, up to {_gib(kept * size)} GiB at once"]


def data_lines(setting: Setting, volume: DataVolume | None) -> list[str]:
    """Images that the loader decodes in a step, and the bytes it reads for them if ``volume`` is given."""
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
    """Traces without and, if the model can, with recomputed activations; notes about failed traces."""
    model, size = setting.experiment.model, setting.experiment.data.image_size
    losses = [term.loss for term in setting.experiment.loss if term.weight > 0]
    traces: dict[bool, MicroBatchCost] = {}
    notes: list[str] = []
    for again in recomputations(model):
        for counted, what in ((losses, "the losses"), ([], "activations")):
            try:
                traces[again] = trace_micro_batch(
                    model, shape, size, batch=setting.micro_batch, bf16=setting.bf16, losses=counted,
                    device=setting.device, objective=setting.experiment.train.objective,
                    processes=setting.experiment.train.sequence_parallel,
                )  # fmt: skip
                break
            except Exception as error:  # as above; an operation may read numbers, which fake tensors lack
                notes.append(f"  {kind_of(again)}: {what} not counted ({reason(error)})")
    return traces, notes


def _offloaded(deepspeed: Mapping[str, Any]) -> list[str]:
    zero = deepspeed.get("zero_optimization", {})
    aside = {name: zero.get(f"offload_{name}") for name in ("optimizer", "param")}
    return [
        f"  {name}: offloaded to {section['device']}, so not in the device's memory"
        for name, section in aside.items()
        if isinstance(section, dict) and section.get("device", "none") != "none"
    ]


def recomputations(model: nn.Module) -> Iterator[bool]:
    """False, while the model keeps all activations; then True, while it recomputes them, if it can.

    Afterwards the model has its own setting again.
    """
    modules = recomputing(model)
    before = [module.checkpoint_every for module in modules]
    try:
        for again in (False, True) if modules else (False,):
            checkpoint_activations(model, every=max([1, *before]) if again else 0)
            yield again
    finally:
        for module, every in zip(modules, before, strict=True):
            module.checkpoint_every = every


def kind_of(again: bool) -> str:
    """Words for whether activations are recomputed."""
    return "recomputed" if again else "all kept"


def reason(error: Exception) -> str:
    """The class and the first line of an error."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _gib(count: int | float) -> str:
    return f"{count / 2**30:,.2f}" if count >= 2**30 / 200 or count == 0 else f"{count / 2**30:,.5f}"


def _flops(count: int | float) -> str:
    power = min(max(len(str(int(count))) - 1, 0) // 3, 5)
    return f"{count / 1000**power:>12,.1f} {' kMGTP'[power].strip()}FLOP"
