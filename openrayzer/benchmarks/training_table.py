"""Measured training steps as a table."""

from collections.abc import Callable, Iterator, Sequence

from openrayzer.benchmarks.training_speed import Rates, StepSpeed

_LABEL, _COLUMN = 46, 26


def table(measured: Sequence[StepSpeed], bare: Sequence[Rates], *, ranks: int) -> list[str]:
    """One column for each side; with two sides, a third column has the ratio of the first to the second.

    Args:
        measured: the measured sides.
        bare: rates of bare matrix products for each side.
        ranks: number of processes of each side.
    """
    return list(_lines(measured, bare, ranks))


def _lines(measured: Sequence[StepSpeed], bare: Sequence[Rates], ranks: int) -> Iterator[str]:
    def without_copies(speed: StepSpeed) -> float:
        return (speed.state_bytes - speed.copied_bytes) / speed.weights

    def row(label: str, values: Sequence[float], form: str, unit: str = "", *, ratio: bool = True) -> str:
        cells = "".join(f"{format(value, form):>{_COLUMN}}" for value in values)
        quotient = f"{values[0] / values[1]:>10.2f}" if ratio and len(values) == 2 and values[1] else ""
        return f"{label + (f', {unit}' if unit else ''):<{_LABEL}}{cells}{quotient}".rstrip()

    def each(value: Callable[[StepSpeed], float]) -> list[float]:
        return [float(value(speed)) for speed in measured]

    names = "".join(f"{speed.name[: _COLUMN - 2]:>{_COLUMN}}" for speed in measured)
    title = f"{ranks} process(es) on {measured[0].device}"
    yield f"{title:<{_LABEL}}{names}{'ratio' if len(measured) == 2 else '':>10}"
    yield row("weights, millions", each(lambda s: s.weights / 1e6), ".1f")
    yield row("clips per micro-batch and rank", each(lambda s: s.batch), ".0f", ratio=False)
    yield row("step, median", each(lambda s: s.step.median * 1e3), ".1f", "ms")
    yield row("step, minimum", each(lambda s: s.step.minimum * 1e3), ".1f", "ms")
    yield row("processor time of a rank, median", each(lambda s: s.processor.median * 1e3), ".1f", "ms")
    yield row("training views per second", each(lambda s: s.views_per_second), ".1f")
    yield row("computation of a step and rank", each(lambda s: s.flops / 1e9), ".1f", "GFLOP")
    yield row("reached at the median", each(lambda s: s.rate / 1e9), ".1f", "GFLOP/s")
    yield row("bare bf16 products, large square ones", [rate.square / 1e9 for rate in bare], ".1f", "GFLOP/s")
    yield row("bare bf16 products of the step", [rate.own_shapes / 1e9 for rate in bare], ".1f", "GFLOP/s")
    pairs = list(zip(measured, bare, strict=True))
    yield row("MFU of the step's own products", [100 * s.rate / r.own_shapes for s, r in pairs], ".1f", "%")
    yield row("MFU of square products", [100 * s.rate / r.square for s, r in pairs], ".1f", "%")
    if measured[0].device == "cpu":
        busy = [100 * _busy(s) / r.per_processor for s, r in pairs]
        yield row("MFU of the own products in processor time", busy, ".1f", "%")
    yield row("waits for data", each(lambda s: 100 * s.data_wait), ".2f", "% of the step", ratio=False)
    yield row("gradients and optimizer of a rank", each(lambda s: s.state_bytes / 2**20), ".1f", "MiB")
    yield row("the same per weight", each(lambda s: s.state_bytes / s.weights), ".2f", "bytes")
    yield row("the same without copies of weights", each(without_copies), ".2f", "bytes")
    yield row("peak memory of a rank", each(lambda s: s.peak_bytes / 2**20), ".0f", "MiB")
    yield row("loss of the last step", each(lambda s: s.loss), ".4f", ratio=False)
    yield "per step, on the first rank"
    for part in ("data", "forward", "loss", "backward", "optimizer", "communication"):
        label = f"  {part}" + (" (within the others)" if part == "communication" else "")
        yield row(label, each(lambda s, part=part: s.parts.get(part, 0.0) * 1e3), ".1f", "ms")  # type: ignore[misc]
    yield "the functions of the model alone, forward only"
    for name in ("estimate", "reconstruct", "render"):
        yield row(f"  {name}", each(lambda s, name=name: s.maps[name] * 1e3), ".1f", "ms")  # type: ignore[misc]


def _busy(speed: StepSpeed) -> float:
    """FLOP per second of processor time."""
    return speed.flops / speed.processor.median
