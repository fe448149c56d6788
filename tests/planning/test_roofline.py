"""Recorded operations and the roofline model, compared with numbers counted by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.layers.stack import Stack, checkpoint_activations
from openrayzer.planning.clip_shapes import ClipShape
from openrayzer.planning.gpu_rates import BANDWIDTH_SHARE, GPUS, LAUNCH, PRODUCT_SHARE, Gpu, gpu_named
from openrayzer.planning.operations import Operations
from openrayzer.planning.optimizer_state import ADAM
from openrayzer.planning.roofline import BUCKET_BYTES, STEP_BYTES, Roofline, roofline
from openrayzer.planning.trace import trace_micro_batch

TINY = Path(__file__).parents[2] / "tests/training/tiny_rayzer.json"
SLOW_MEMORY = Gpu("slow memory", 1.0, 1e30, 1e30, 1e30, 1.0, 1.0)
SLOW_PRODUCTS = Gpu("slow products", 1e30, 4.0, 2.0, 1.0, 1.0, 1.0)
WIDTH, ROWS = 16, 32
BYTES = WIDTH * ROWS * 4
WEIGHT = WIDTH * WIDTH * 4


class Residual(nn.Module):
    """A matrix product between elementwise operations."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        return self.linear(values.exp() * 2 + 1).relu() + values


class OneBlock(Stack):
    """A stack of one or more blocks."""

    def __init__(self, count: int = 1) -> None:
        super().__init__([Residual() for _ in range(count)], width=WIDTH)

    def forward(self, values: Tensor) -> Tensor:
        for number in range(len(self.blocks)):
            values = self.run(number, values)
        return values


def recorded(model: nn.Module, *, backward: bool) -> Operations:
    values, gradient = torch.ones(ROWS, WIDTH, requires_grad=True), torch.ones(ROWS, WIDTH)
    operations = Operations(model)
    with operations:
        result = model(values)
        if backward:
            result.backward(gradient)
    return operations


def modelled(operations: Operations, gpu: Gpu, *, compiled: bool, tf32: bool = False) -> Roofline:
    return roofline(operations.recorded, gpu=gpu, compiled=compiled, tf32=tf32, results=operations.results)


def moved(model: Roofline) -> float:
    """Bytes of elementwise operations, from their time on a GPU with a bandwidth of one byte a second."""
    return model.kinds["elementwise and reductions"] * BANDWIDTH_SHARE


def test_a_fused_run_reads_its_inputs_and_writes_its_results():
    with torch.no_grad():
        operations = recorded(OneBlock(), backward=False)
    # exp, mul and add before the product, relu and add after it; each of three reads one and writes one
    assert moved(modelled(operations, SLOW_MEMORY, compiled=False)) == pytest.approx((4 * 2 + 3) * BYTES)
    with torch.no_grad():
        operations = recorded(nn.Sequential(OneBlock(), nn.ReLU()), backward=False)
    first, second, relu = 2 * BYTES, 3 * BYTES, 2 * BYTES  # an operation outside of the block uses the result
    assert moved(modelled(operations, SLOW_MEMORY, compiled=True)) == pytest.approx(first + second + relu)
    launches = modelled(operations, SLOW_MEMORY, compiled=True).launches
    assert launches == 3 + 1 + 2 + 1  # a run has at most as many launches as operations


def test_a_fused_run_writes_tensors_for_the_backward_pass():
    operations = recorded(OneBlock(), backward=True)
    before, after = 3 * BYTES, 3 * BYTES  # x in, exp(x) and the sum out; product and x in, relu out
    # in: gradient and relu, out: gradient of the product; in: gradient of the sum, exp(x) and the residual's gradient;
    # no operation uses the last result
    backward = 3 * BYTES + 3 * BYTES
    assert moved(modelled(operations, SLOW_MEMORY, compiled=True)) == pytest.approx(before + after + backward)


def test_blocks_are_regions_in_both_passes():
    operations = recorded(OneBlock(2), backward=True).recorded
    assert {operation.region for operation in operations if operation.name == "exp"} == {("forward", 0), ("forward", 1)}
    products = [operation for operation in operations if operation.kind == "product"]
    assert [operation.region for operation in products] == [
        ("forward", 0), ("forward", 1), ("backward", 1), ("backward", 1), ("backward", 0), ("backward", 0),
    ]  # fmt: skip
    assert all(operation.flops == 2 * ROWS * WIDTH * WIDTH for operation in products)


def test_recomputed_blocks_run_a_second_time():
    model = OneBlock(2)
    checkpoint_activations(model, every=1)
    operations = recorded(model, backward=True).recorded
    regions = [operation.region for operation in operations if operation.kind == "product"]
    assert regions == [
        ("forward", 0), ("forward", 1), ("forward", 2), ("backward", 1), ("backward", 1),
        ("forward", 3), ("backward", 0), ("backward", 0),
    ]  # fmt: skip


def test_operations_outside_of_blocks_are_not_fused():
    operations = recorded(Residual(), backward=True)
    written, compiled = (modelled(operations, SLOW_MEMORY, compiled=compiled) for compiled in (False, True))
    assert written.kinds == compiled.kinds


def test_products_run_at_the_rate_of_their_dtype():
    operations = recorded(OneBlock(), backward=False)
    flops = 2 * ROWS * WIDTH * WIDTH
    for tf32, rate in ((False, 1.0), (True, 2.0)):
        model = modelled(operations, SLOW_PRODUCTS, compiled=True, tf32=tf32)
        assert model.kinds["products and attention"] == pytest.approx(flops / rate / PRODUCT_SHARE)
        assert model.flops == flops


def test_a_product_takes_at_least_the_time_of_its_bytes():
    with torch.no_grad():
        operations = recorded(OneBlock(), backward=False)
    model = modelled(operations, SLOW_MEMORY, compiled=True)
    assert model.kinds["products and attention"] * BANDWIDTH_SHARE == pytest.approx(2 * BYTES + WEIGHT)


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolutions_without_channels_last_are_transposed(channels_last: bool):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = nn.Conv2d(4, 4, 1, bias=False).to(memory_format=layout)
    operations = Operations(network)
    with torch.no_grad(), operations:
        network(torch.ones(1, 4, 8, 8).contiguous(memory_format=layout))
    once = 2 * 4 * 8 * 8 * 4 + 4 * 4 * 4
    seconds = modelled(operations, SLOW_MEMORY, compiled=True).kinds["convolutions"]
    assert seconds * BANDWIDTH_SHARE == pytest.approx(once * (1 if channels_last else 3), rel=0.5)
    assert [operation.channels_last for operation in operations.recorded if operation.kind == "convolution"] == [
        channels_last
    ]


@pytest.mark.parametrize("name", GPUS)
@pytest.mark.parametrize("recomputed", [0, 1])
def test_compiled_is_never_slower(traces: dict[int, Operations], name: str, recomputed: int):
    operations = traces[recomputed]
    written, compiled = (modelled(operations, GPUS[name], compiled=compiled) for compiled in (False, True))
    assert compiled.seconds < written.seconds
    assert compiled.launches < written.launches
    assert compiled.flops == written.flops
    for kind in ("products and attention", "convolutions"):
        assert compiled.kinds[kind] == written.kinds[kind]
    assert sum(compiled.places.values()) + compiled.kinds["products and attention"] <= compiled.seconds


@pytest.fixture(scope="module")
def traces() -> dict[int, Operations]:
    """Operations of a micro-batch of a tiny model, with kept and with recomputed activations."""
    found = {}
    for recomputed in (0, 1):
        with torch.device("meta"):
            model = load_experiment(TINY).build().model
        checkpoint_activations(model, every=recomputed)
        found[recomputed] = Operations(model)
        trace_micro_batch(model, ClipShape(5, 3, 2), (24, 32), batch=2, bf16=True, watching=found[recomputed])
    return found


def test_roofline_and_trace_count_the_same_operations(traces: dict[int, Operations]):
    with torch.device("meta"):
        model = load_experiment(TINY).build().model
    checkpoint_activations(model, every=0)
    trace = trace_micro_batch(model, ClipShape(5, 3, 2), (24, 32), batch=2, bf16=True)
    assert modelled(traces[0], GPUS["h100"], compiled=True).flops == trace.total
    assert any(operation.place.startswith("layers/") for operation in traces[0].recorded)
    backward = [operation for operation in traces[0].recorded if (operation.region or ("", 0))[0] == "backward"]
    assert sum(bool(operation.place) for operation in backward) > 0.9 * len(backward)


def test_a_step_consists_of_micro_batches_and_the_optimizer(traces: dict[int, Operations]):
    once, more = (
        roofline(traces[0].recorded, gpu=SLOW_MEMORY, compiled=True, tf32=True, micro_batches=count, weights=10)
        for count in (1, 3)
    )
    assert more.kinds["launches"] == pytest.approx(3 * once.kinds["launches"])
    assert once.kinds["launches"] == pytest.approx(LAUNCH * once.launches)
    assert more.kinds["optimizer"] * BANDWIDTH_SHARE == pytest.approx(10 * (STEP_BYTES + 2 * ADAM + 3 * BUCKET_BYTES))


def test_the_error_for_an_unknown_gpu_lists_the_known_ones():
    assert gpu_named("h200") is GPUS["h200"]
    with pytest.raises(InputError, match="no GPU named 'h20'; known: a100, h100, h200"):
        gpu_named("h20")
