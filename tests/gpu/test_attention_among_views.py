"""Attention among views, and to neighbourhoods, on a GPU against float64 on the CPU."""

from collections.abc import Callable

import pytest
import torch
from gpu_suite import ALLOWED, difference, refusal, rounded, with_gradients
from torch import Tensor

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend
from openrayzer.layers.cosine_attention import Attend, KeyValue
from openrayzer.layers.neighbourhood import neighbourhood
from openrayzer.layers.view_attention import (
    all_views,
    contexts_and_targets,
    earlier_views,
    memory_and_own_view,
    own_view,
)

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
NAMES = [entry.name for entry in ATTENTION_BACKENDS if entry.target.__module__.startswith("openrayzer.")]
VIEWS = 8
in_both = pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float32], ids=lambda dtype: str(dtype).removeprefix("torch.")
)


def heads(n: int, *, seed: int, dtype: torch.dtype) -> Tensor:
    return rounded(2, VIEWS, n, 2, 64, seed=seed, dtype=dtype)


def sights(backend: AttentionBackend) -> dict[str, Callable[[KeyValue], Attend]]:
    """Ways to look, by name; each is given what a memory remembers."""
    return {
        "own": lambda memory: own_view(backend),
        "all": lambda memory: all_views(backend),
        "pairs": lambda memory: contexts_and_targets(backend),
        "earlier": lambda memory: earlier_views(backend, memory),
        "memory": lambda memory: memory_and_own_view(memory, backend=backend),
    }


def looked(sight: Callable[[KeyValue], Attend]) -> Callable[..., Tensor]:
    """The sight as a function of tensors, all of which get a gradient, be it zero."""

    def look(query: Tensor, key: Tensor, value: Tensor, other_key: Tensor, other_value: Tensor) -> Tensor:
        seen = sight(KeyValue(other_key, other_value))(query, KeyValue(key, value))
        return seen + 0 * (other_key + other_value).sum()

    return look


@in_both
@pytest.mark.parametrize("name", NAMES)
def test_views_see_what_they_may(gpu: torch.device, name: str, dtype: torch.dtype, figure: Callable[[str], None]):
    backend, found = ATTENTION_BACKENDS[name](), {}
    if why := refusal(backend, gpu, dtype):
        pytest.skip(why)
    tensors = [heads(65, seed=seed, dtype=dtype) for seed in range(5)]
    formulas = sights(ATTENTION_BACKENDS["reference"]())
    for sight, look in sights(backend).items():
        right = with_gradients(looked(formulas[sight]), *tensors, device=CPU, dtype=torch.float64)
        ours = with_gradients(looked(look), *tensors, device=gpu, dtype=dtype)
        used = 6 if sight in ("earlier", "memory") else 4  # the others remember nothing
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
