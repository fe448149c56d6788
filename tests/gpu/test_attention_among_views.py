"""Attention among views and to neighbourhoods on a GPU, compared with float64 on the CPU."""

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


def rules(backend: AttentionBackend) -> dict[str, Callable[[KeyValue], Attend]]:
    """Rules for the views that a view sees, by name; each takes the keys and values of a memory."""
    return {
        "own": lambda memory: own_view(backend),
        "all": lambda memory: all_views(backend),
        "pairs": lambda memory: contexts_and_targets(backend),
        "earlier": lambda memory: earlier_views(backend, memory),
        "memory": lambda memory: memory_and_own_view(memory, backend=backend),
    }


def on_tensors(rule: Callable[[KeyValue], Attend]) -> Callable[..., Tensor]:
    """The rule as a function of tensors; unused tensors get a gradient of zeros."""

    def attend(query: Tensor, key: Tensor, value: Tensor, other_key: Tensor, other_value: Tensor) -> Tensor:
        seen = rule(KeyValue(other_key, other_value))(query, KeyValue(key, value))
        return seen + 0 * (other_key + other_value).sum()

    return attend


@in_both
@pytest.mark.parametrize("name", NAMES)
def test_attention_among_views_matches_float64(
    gpu: torch.device, name: str, dtype: torch.dtype, figure: Callable[[str], None]
):
    backend, found = ATTENTION_BACKENDS[name](), {}
    if why := refusal(backend, gpu, dtype):
        pytest.skip(why)
    tensors = [heads(65, seed=seed, dtype=dtype) for seed in range(5)]
    formulas = rules(ATTENTION_BACKENDS["reference"]())
    for name_of_rule, rule in rules(backend).items():
        right = with_gradients(on_tensors(formulas[name_of_rule]), *tensors, device=CPU, dtype=torch.float64)
        ours = with_gradients(on_tensors(rule), *tensors, device=gpu, dtype=dtype)
        used = 6 if name_of_rule in ("earlier", "memory") else 4  # the others have no memory
        pairs = list(zip(ours, right, strict=True))[:used]
        found[name_of_rule] = max(difference(one, other) for one, other in pairs)
    figure(", ".join(f"{rule} {error:.1e}" for rule, error in found.items()))
    assert max(found.values()) < ALLOWED[dtype]


@in_both
@pytest.mark.parametrize("grid", [(16, 16), (7, 11)], ids=str)
def test_attention_to_neighbourhoods_matches_float64(
    gpu: torch.device, grid: tuple[int, int], dtype: torch.dtype, figure: Callable[[str], None]
):
    tensors = [heads(grid[0] * grid[1], seed=seed, dtype=dtype) for seed in range(3)]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return neighbourhood(grid, window=7, borders="own", device=query.device)(query, KeyValue(key, value))

    right = with_gradients(attend, *tensors, device=CPU, dtype=torch.float64)
    ours = with_gradients(attend, *tensors, device=gpu, dtype=dtype)
    worst = max(difference(one, other) for one, other in zip(ours, right, strict=True))
    figure(f"{worst:.1e}")
    assert worst < ALLOWED[dtype]
