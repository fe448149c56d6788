"""The plan of a run on GPUs that need not be here, as lines of text."""

from openrayzer.planning.communication import LINK_SHARE, Machines
from openrayzer.planning.cost_report import kind_of
from openrayzer.planning.gpu_rates import ATTENTION_SHARE, PRODUCT_SHARE
from openrayzer.planning.run_plan import DISK, RESERVED, Choice, RunPlan

_HEADS = (
    ("train.sequence_parallel", 23), ("train.accumulation", 20), ("clips", 8), ("ZeRO", 6), ("activations", 13),
    ("GiB", 8), ("ms a step", 12), ("waiting", 9), ("GPU hours", 12),
)  # fmt: skip
_SHOWN = 6
"""Number of choices that fit, and of those that do not."""


def run_plan_lines(plan: RunPlan, machines: Machines) -> list[str]:
    """The choices of stage, micro-batch and recomputation, the fastest first, and the costs of the fastest."""
    gpu = machines.gpu
    lines = [
        f"plan for {machines.gpus} x {gpu.title} on {machines.nodes} node(s); nothing was timed",
        f"  products at {PRODUCT_SHARE:.0%} and attention at {ATTENTION_SHARE:.0%} of the peak rate; links at "
        f"{LINK_SHARE:.0%} of {gpu.link / 1e9:,.0f} GB/s in a node, {machines.network / 1e9:,.0f} GB/s between nodes",
        *(f"  note: {note}" for note in plan.notes),
    ]
    if plan.fitting:
        lines.append("  " + "".join(f"{name:>{width}}" for name, width in _HEADS))
        lines += [_row(one, plan, machines) for one in plan.fitting[:_SHOWN]]
        lines += _costs(plan, plan.fitting[0], machines)
    if plan.too_large:
        limit = (1 - RESERVED) * gpu.memory
        lines.append(f"  too large for the {limit / 2**30:,.0f} GiB of a GPU")
        lines += [f"  {_name(one)}: {one.memory / 2**30:,.1f} GiB" for one in plan.too_large[:_SHOWN]]
    return lines


def _row(one: Choice, plan: RunPlan, machines: Machines) -> str:
    return (
        f"  {one.shared:>23}{one.accumulation:>20}{one.micro_batch:>8}{one.stage:>6}{kind_of(one.recomputed):>13}"
        f"{one.memory / 2**30:>8,.1f}{1000 * one.seconds:>12,.0f}{one.waited / one.seconds:>9.0%}"
        f"{plan.gpu_hours(one, machines):>12,.0f}"
    )


def _costs(plan: RunPlan, one: Choice, machines: Machines) -> list[str]:
    images = plan.batch * plan.views / one.seconds
    stall = plan.checkpoint_seconds(machines)
    return [
        f"  the first row: {plan.steps:,} steps in {plan.steps * one.seconds / 3600:,.1f} hours; each node loads "
        f"{images / machines.nodes:,.0f} images a second",
        f"  {plan.checkpoints} checkpoints of {plan.checkpoint / 2**30:,.1f} GiB; each stops training for {stall:,.1f} "
        f"s if a node writes {DISK / 1e9:g} GB/s",
    ]


def _name(one: Choice) -> str:
    shared = f", {one.shared} GPUs for each clip" * (one.shared > 1)
    return f"ZeRO {one.stage}, {one.micro_batch} clip(s) at once, activations {kind_of(one.recomputed)}{shared}"
