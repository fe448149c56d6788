"""A roofline model of a GPU's time in one optimizer step. Nothing is timed.

An operation takes its bytes divided by the memory's bandwidth, or its floating point operations divided by the rate of
its dtype, whichever is longer, plus the launch of its kernel.

Source: Williams, Waterman and Patterson 2009, "Roofline: An Insightful Visual Performance Model".

``train.compile`` compiles the blocks of every stack and the losses. In them, all operations between two products,
convolutions or calls of attention count as one fused run with a few kernels. A run reads each of its
inputs once and writes each result that is used outside of the run once.

Not modelled: communication, loading, waits of the host, caches, products too small to fill a GPU, and activations that
the compiler recomputes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from openrayzer.planning.gpu_rates import (
    ATTENTION_SHARE,
    BANDWIDTH_SHARE,
    CONVOLUTION_SHARE,
    LAUNCH,
    PRODUCT_SHARE,
    Gpu,
)
from openrayzer.planning.operations import Access, Operation
from openrayzer.planning.optimizer_state import ADAM

FUSED_LAUNCHES = 3
"""Largest number of kernels of a fused run: one over the rows, one for sums over rows and one for casts."""
STEP_BYTES = 24
"""Bytes moved for each trainable weight and step, in float32, without the optimizer's state. The optimizer reads weight
and gradient and writes the weight. The gradient is read for the norm, and read and written for clipping. The state is
read and written once."""
BUCKET_BYTES = 24
"""Bytes moved for each trainable weight and micro-batch. The gradient goes to a bucket and is divided there by the
number of GPUs. Then one GPU copies it to the optimizer, and several GPUs copy it for their all-reduce."""
OWN_SUM_BYTES = 16
"""Bytes moved for each weight that a GPU updates and each micro-batch, with several GPUs: the sum goes to the bucket
and to the optimizer. Source: DeepSpeed 0.19.8, zero/stage_1_and_2.py."""
KINDS = ("products and attention", "convolutions", "elementwise and reductions", "launches", "optimizer")


@dataclass
class Roofline:
    """Seconds of one optimizer step on one GPU.

    Attributes:
        kinds: seconds by kind, with the keys ``KINDS``.
        places: seconds of operations other than products and attention, by operator and line of this package.
        flops: floating point operations of the step.
        launches: number of kernel launches.
    """

    kinds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    places: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    flops: int = 0
    launches: int = 0

    @property
    def seconds(self) -> float:
        """Seconds of the whole step."""
        return sum(self.kinds.values())

    def share(self, kind: str) -> float:
        """Share of one kind in the step's time, from 0 to 1."""
        return self.kinds[kind] / self.seconds


def roofline(
    operations: list[Operation],
    *,
    gpu: Gpu,
    compiled: bool,
    tf32: bool,
    results: Iterable[int] = (),
    micro_batches: int = 1,
    weights: int = 0,
    ranks: int = 1,
    state: float = ADAM,
) -> Roofline:
    """Model an optimizer step from the operations of one micro-batch.

    Args:
        operations: operations of a micro-batch, in the order in which they run.
        gpu: the GPU.
        compiled: whether blocks and losses are compiled; otherwise each operation is a kernel.
        tf32: whether float32 products may use TF32. Convolutions never do, as in training.
        results: storages that are needed after the last operation, such as gradients of weights.
        micro_batches: number of micro-batches of a step.
        weights: number of trainable weights.
        ranks: number of GPUs among which ZeRO divides the optimizer.
        state: bytes of optimizer state for each trainable weight.
    """
    model = Roofline()
    needed = _last_reads(operations) | dict.fromkeys(results, len(operations))
    for start, run in _runs(operations, compiled=compiled):
        times = [_seconds(operation, gpu, tf32=tf32) for operation in run]
        total, launches = sum(times), len(run)
        if len(run) > 1:
            total = _moving(_bytes_of_run(run, needed, end=start + len(run)), gpu)
            launches = min(len(run), FUSED_LAUNCHES)
        _add(model, run, times, total, launches)
    return _step(model, gpu, micro_batches=micro_batches, moved=weights * optimizer_bytes(state, micro_batches, ranks))


def optimizer_bytes(state: float, micro_batches: int, ranks: int) -> float:
    """Bytes that a GPU moves for each trainable weight in an optimizer step, besides communication.

    ZeRO divides the optimizer among the GPUs. But each GPU copies the gradients of all weights into buckets, whoever
    updates them. Its own part of the sum goes back to the bucket and on to the optimizer.

    Args:
        state: bytes of optimizer state for each trainable weight.
        micro_batches: number of micro-batches of a step.
        ranks: number of GPUs among which ZeRO divides the optimizer.
    """
    copies = BUCKET_BYTES + (OWN_SUM_BYTES / ranks if ranks > 1 else 0)
    return (STEP_BYTES + 2 * state) / ranks + micro_batches * copies


def _step(model: Roofline, gpu: Gpu, *, micro_batches: int, moved: float) -> Roofline:
    """The time of all micro-batches and of the optimizer, from the time of one micro-batch."""
    kinds = {kind: micro_batches * seconds for kind, seconds in model.kinds.items()} | {KINDS[4]: _moving(moved, gpu)}
    places = {place: micro_batches * seconds for place, seconds in model.places.items()}
    return Roofline(kinds, places, micro_batches * model.flops, micro_batches * model.launches)


def _add(model: Roofline, run: list[Operation], times: list[float], total: float, launches: int) -> None:
    """Add a run. Its operations share its time in proportion to the time that each one would take alone."""
    kind = {"other": KINDS[2], "convolution": KINDS[1]}.get(run[0].kind, KINDS[0])
    model.kinds[kind] += total
    model.kinds["launches"] += launches * LAUNCH
    model.launches += launches
    model.flops += sum(operation.flops for operation in run)
    if kind == KINDS[0]:
        return
    alone = sum(times)
    for operation, seconds in zip(run, times, strict=True):
        of_run = total * seconds / alone if alone else 0.0
        model.places[operation.name, operation.place] += of_run + LAUNCH * launches / len(run)


def _runs(operations: list[Operation], *, compiled: bool) -> Iterator[tuple[int, list[Operation]]]:
    """Start and operations of each run: one operation, or all operations between two products of a compiled block."""
    start = 0
    while start < len(operations):
        end = start + 1
        if compiled and _fuses(operations[start]):
            region = operations[start].region
            while end < len(operations) and _fuses(operations[end]) and operations[end].region == region:
                end += 1
        yield start, operations[start:end]
        start = end


def _fuses(operation: Operation) -> bool:
    return operation.kind == "other" and operation.region is not None


def _last_reads(operations: list[Operation]) -> dict[int, int]:
    """The last operation that reads each storage."""
    return {access.storage: number for number, operation in enumerate(operations) for access in operation.reads}


def _bytes_of_run(run: list[Operation], needed: dict[int, int], *, end: int) -> int:
    """Bytes of the inputs from outside of the run and of the results needed after ``end``, each counted once."""
    made: set[int] = set()
    inputs: list[Access] = []
    for operation in run:
        inputs += [access for access in operation.reads if access.storage not in made]
        made |= {access.storage for access in operation.writes}
    results = [access for operation in run for access in operation.writes if needed.get(access.storage, -1) >= end]
    return _distinct_bytes(inputs) + _distinct_bytes(results)


def _distinct_bytes(accesses: list[Access]) -> int:
    """Bytes of all different parts; the parts of a storage count at most as its whole size."""
    parts: Counter[int] = Counter()
    for storage, _, size in {(access.storage, access.view, access.bytes) for access in accesses}:
        parts[storage] += size
    whole = {access.storage: access.total for access in accesses}
    return sum(min(size, whole[storage]) for storage, size in parts.items())


def _seconds(operation: Operation, gpu: Gpu, *, tf32: bool) -> float:
    """Seconds of one operation without the launch of its kernel."""
    size = sum(access.bytes for access in operation.reads + operation.writes)
    if operation.kind == "other":
        return _moving(size, gpu)
    half = operation.dtype in (torch.bfloat16, torch.float16)
    rate = gpu.bf16 if half else gpu.tf32 if tf32 and operation.kind != "convolution" else gpu.float32
    shares = {"product": PRODUCT_SHARE, "attention": ATTENTION_SHARE, "convolution": CONVOLUTION_SHARE}
    seconds = max(_moving(size, gpu), operation.flops / (rate * shares[operation.kind]))
    transposed = operation.kind == "convolution" and not operation.channels_last
    return seconds + (_moving(2 * size, gpu) if transposed else 0.0)


def _moving(size: int | float, gpu: Gpu) -> float:
    return size / (gpu.bandwidth * BANDWIDTH_SHARE)
