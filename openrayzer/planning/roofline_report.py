"""The roofline model of a step as lines of text."""

from collections.abc import Sequence

from torch import nn

from openrayzer.planning.clip_shapes import clip_shapes
from openrayzer.planning.cost_report import Setting, reason
from openrayzer.planning.gpu_rates import Gpu
from openrayzer.planning.operations import Operations
from openrayzer.planning.roofline import KINDS, Roofline, roofline
from openrayzer.planning.trace import trace_micro_batch

_NUM_PLACES = 8
"""Number of places in the list."""


def roofline_lines(setting: Setting, gpu: Gpu) -> list[str]:
    """Shares of a modelled step, uncompiled and compiled, and its slowest operations other than products."""
    losses = [term.loss for term in setting.experiment.loss if term.weight > 0]
    notes: list[str] = []
    for counted, what in ((losses, "the losses"), ([], "operations")):
        try:
            operations = _recorded(setting, counted)
        except Exception as error:  # models and losses may come from plugins, and this is only an estimate
            notes.append(f"  roofline: {what} not counted ({reason(error)})")
            continue
        return [*_table(setting, operations, gpu), *notes]
    return notes


def _recorded(setting: Setting, losses: Sequence[nn.Module]) -> Operations:
    """The operations of one micro-batch, with recomputed activations if the experiment asks for them."""
    model, data = setting.experiment.model, setting.experiment.data
    shape = clip_shapes(data.view_sampler, steps=setting.experiment.train.steps)[-1]
    operations = Operations(nn.ModuleList([model, *losses]))
    trace_micro_batch(
        model,
        shape,
        data.image_size,
        batch=setting.micro_batch,
        bf16=setting.bf16,
        losses=losses,
        objective=setting.experiment.train.objective,
        processes=setting.experiment.train.sequence_parallel,
        watching=operations,
    )
    return operations


def _table(setting: Setting, operations: Operations, gpu: Gpu) -> list[str]:
    kinds = "".join(f"{kind:>28}" for kind in KINDS)
    written, compiled = (_modelled(setting, operations, gpu, compiled=compiled) for compiled in (False, True))
    return [
        f"roofline of one optimizer step, {gpu.title}, {setting.micro_batch} clip(s) at once; nothing was timed",
        f"  {'':<14}{kinds}{'total, ms':>12}{'launches':>11}{'of the rate':>13}",
        _row("as written", written, gpu),
        _row("train.compile", compiled, gpu),
        "  the slowest operations of the compiled step other than products and attention",
        *_places(compiled),
    ]


def _modelled(setting: Setting, operations: Operations, gpu: Gpu, *, compiled: bool) -> Roofline:
    train = setting.experiment.train
    trainable = sum(weight.numel() for weight in setting.experiment.model.parameters() if weight.requires_grad)
    return roofline(
        operations.recorded,
        gpu=gpu,
        compiled=compiled,
        tf32=setting.bf16 and train.tf32,
        results=operations.results,
        micro_batches=train.accumulation,
        weights=trainable,
        ranks=setting.ranks,
        state=setting.state,
    )


def _row(title: str, model: Roofline, gpu: Gpu) -> str:
    shares = "".join(f"{100 * model.share(kind):>26.1f} %" for kind in KINDS)
    of_rate = model.flops / model.seconds / gpu.bf16
    return f"  {title:<14}{shares}{1000 * model.seconds:>12,.1f}{model.launches:>11,}{100 * of_rate:>11.1f} %"


def _places(model: Roofline) -> list[str]:
    most = sorted(model.places.items(), key=lambda item: -item[1])[:_NUM_PLACES]
    return [
        f"    {100 * seconds / model.seconds:>5.1f} %  {name:<36} {place or '(the framework)'}"
        for (name, place), seconds in most
    ]
