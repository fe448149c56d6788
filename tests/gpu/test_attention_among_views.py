"""Attention among views, and to neighbourhoods, on a GPU against float64 on the CPU."""

from collections.abc import Callable

import pytest
import torch
from gpu_suite import ALLOWED, difference, refusal, rounded, with_gradients
from torch import Tensor

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend
from openrayzer.layers.cosine_attention import KeyValue
from openrayzer.layers.neighbourhood import neighbourhood
from openrayzer.layers.sights import all_views, earlier_views, memory_and_own_view, own_view

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
NAMES = [entry.name for entry in ATTENTION_BACKENDS if entry.target.__module__.startswith("openrayzer.")]
VIEWS = 7
in_both = pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float32], ids=lambda dtype: str(dtype).removeprefix("torch.")
)


def heads(n: int, *, seed: int, dtype: torch.dtype) -> Tensor:
    return rounded(2, VIEWS, n, 2, 64, seed=seed, dtype=dtype)


def sights(backend: AttentionBackend) -> dict[str, Callable[..., Tensor]]:
    """Functions of queries, keys, values, and of what a memory remembers."""
    return {
        "own": lambda q, k, v, mk, mv: own_view(backend)(q, KeyValue(k, v)) + 0 * (mk + mv).sum(),
        "all": lambda q, k, v, mk, mv: all_views(backend)(q, KeyValue(k, v)) + 0 * (mk + mv).sum(),
        "earlier": lambda q, k, v, mk, mv: earlier_views(backend, KeyValue(mk, mv))(q, KeyValue(k, v)),
        "memory": lambda q, k, v, mk, mv: memory_and_own_view(KeyValue(mk, mv), prefix=False, backend=backend)(
            q, KeyValue(k, v)
        ),
        "earlier memory": lambda q, k, v, mk, mv: memory_and_own_view(KeyValue(mk, mv), prefix=True, backend=backend)(
            q, KeyValue(k, v)
        ),
    }


@in_both
@pytest.mark.parametrize("name", NAMES)
def test_views_see_what_they_may(gpu: torch.device, name: str, dtype: torch.dtype, figure: Callable[[str], None]):
    backend, found = ATTENTION_BACKENDS[name](), {}
    if why := refusal(backend, gpu, dtype):
        pytest.skip(why)
    tensors = [heads(65, seed=seed, dtype=dtype) for seed in range(5)]
    formulas = sights(ATTENTION_BACKENDS["reference"]())
    for sight, look in sights(backend).items():
        right = with_gradients(formulas[sight], *tensors, device=CPU, dtype=torch.float64)
        ours = with_gradients(look, *tensors, device=gpu, dtype=dtype)
        used = 4 if sight in ("own", "all") else 6  # nothing is remembered there, and its gradient is zero
        pairs = list(zip(ours, right, strict=True))[:used]
        found[sight] = max(difference(one, other) for one, other in pairs)
    figure(", ".join(f"{sight} {error:.1e}" for sight, error in found.items()))
    assert max(found.values()) < ALLOWED[dtype]


@in_both
@pytest.mark.parametrize("grid", [(16, 16), (7, 11)], ids=str)
def test_a_token_sees_its_neighbourhood(
    gpu: torch.device, grid: tuple[int, int], dtype: torch.dtype, figure: Callable[[str], None]
):
    tensors = [heads(grid[0] * grid[1], seed=seed, dtype=dtype) for seed in range(3)]

    def look(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return neighbourhood(grid, window=7, borders="own", device=query.device)(query, KeyValue(key, value))

    right = with_gradients(look, *tensors, device=CPU, dtype=torch.float64)
    ours = with_gradients(look, *tensors, device=gpu, dtype=dtype)
    worst = max(difference(one, other) for one, other in zip(ours, right, strict=True))
    figure(f"{worst:.1e}")
    assert worst < ALLOWED[dtype]
