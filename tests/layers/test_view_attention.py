"""Attention among views in blocks equals one masked attention over all views, in outputs and gradients."""

from collections.abc import Callable

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from openrayzer.interfaces import ATTENTION_BACKENDS
from openrayzer.layers.cosine_attention import KeyValue
from openrayzer.layers.view_attention import (
    _block_mask,
    _masked,
    all_views,
    contexts_and_targets,
    earlier_views,
    memory_and_own_view,
    own_view,
    pair_mask,
)

CONTEXTS, N = 3, 5
RUNNABLE = [entry.name for entry in ATTENTION_BACKENDS if not entry.target().refusal(torch.zeros(1, 2, 1, 16))]


def heads(views: int, *, seed: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    values = torch.randn(2, views, N, 2, 16, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return values.to(device).requires_grad_()


def streams(targets: int, **given) -> list[Tensor]:
    """Query, key and value of contexts, then of targets."""
    return [heads(views, seed=10 * k + views, **given) for views in (CONTEXTS, targets) for k in range(3)]


def blocked(tensors: list[Tensor], *, prefix: bool, backend: str) -> Tensor:
    """Attention in blocks: contexts, then targets. With ``prefix`` target i sees contexts 0 to i, else all contexts."""
    attention = ATTENTION_BACKENDS[backend]()
    if prefix:
        attend = contexts_and_targets(attention)
        query, key, value = (torch.stack(pair, 2).flatten(1, 2) for pair in zip(tensors[:3], tensors[3:], strict=True))
        read = attend(query, KeyValue(key, value))
        return torch.cat([read[:, ::2], read[:, 1::2]], dim=1)
    query, key, value, target_query, target_key, target_value = tensors
    memory = KeyValue(key, value)
    contexts = earlier_views(attention)(query, memory)
    attend = memory_and_own_view(memory, backend=attention)
    return torch.cat([contexts, attend(target_query, KeyValue(target_key, target_value))], dim=1)


def sees(prefix: bool) -> Callable[[int, int], bool]:
    """RayDer's mask: whether one view of the joint pass, contexts first, sees another."""

    def seen(one: int, other: int) -> bool:
        if other >= CONTEXTS:
            return one == other
        return other <= (one if one < CONTEXTS else one - CONTEXTS if prefix else CONTEXTS)

    return seen


def joint(tensors: list[Tensor]) -> list[Tensor]:
    """Query, key and value of contexts and targets in one sequence, heads first."""
    pairs = zip(tensors[:3], tensors[3:], strict=True)
    return [rearrange(torch.cat(pair, dim=1), "b v n h e -> b h (v n) e") for pair in pairs]


def masked(tensors: list[Tensor], *, prefix: bool) -> Tensor:
    """One masked attention over all views."""
    query, key, value = joint(tensors)
    views = query.shape[2] // N
    mask = torch.tensor([[sees(prefix)(one, other) for other in range(views)] for one in range(views)])
    mask = mask.repeat_interleave(N, 0).repeat_interleave(N, 1).to(query.device)
    scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return rearrange(scores.softmax(-1) @ value, "b h (v n) e -> b v n h e", n=N)


def flex(tensors: list[Tensor], *, prefix: bool, attend: Callable = flex_attention) -> Tensor:
    query, key, value = joint(tensors)
    length = query.shape[2]
    views = length // N
    table = torch.tensor([[sees(prefix)(one, other) for other in range(views)] for one in range(views)])
    table = table.to(query.device)
    mask = create_block_mask(
        lambda b, h, q, k: table[q // N, k // N], None, None, length, length, device=query.device.type
    )
    return rearrange(attend(query, key, value, block_mask=mask), "b h (v n) e -> b v n h e", n=N)


def assert_same_gradients(first: Tensor, second: Tensor, tensors: list[Tensor], **tolerance: float) -> None:
    torch.testing.assert_close(first, second, **tolerance)
    wanted = torch.randn(first.shape, generator=torch.Generator().manual_seed(1), dtype=first.dtype).to(first.device)
    pairs = zip(
        torch.autograd.grad((first * wanted).sum(), tensors),
        torch.autograd.grad((second * wanted).sum(), tensors),
        strict=True,
    )
    for gradient, other in pairs:
        torch.testing.assert_close(gradient, other, **tolerance)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize(("prefix", "targets"), [(True, CONTEXTS), (False, CONTEXTS), (False, 1), (False, 4)])
def test_blocked_attention_is_the_masked_one(backend, prefix, targets):
    tensors = streams(targets)
    first, second = blocked(tensors, prefix=prefix, backend=backend), masked(tensors, prefix=prefix)
    assert_same_gradients(first, second, tensors)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("prefix", "targets"), [(True, CONTEXTS), (False, 2)])
def test_blocked_attention_is_flex_attention(prefix, targets):
    """Forward only: PyTorch has no backward pass of FlexAttention on a CPU."""
    tensors = [x.detach().float() for x in streams(targets)]
    expected = flex(tensors, prefix=prefix)
    torch.testing.assert_close(blocked(tensors, prefix=prefix, backend="sdpa"), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_the_pair_mask_equals_the_blocks(pairs):
    query, key, value = (heads(2 * pairs, seed=seed).detach().float() for seed in range(3))
    keys_values, mask = KeyValue(key, value), _block_mask(pairs, N, "cpu")
    expected = contexts_and_targets(ATTENTION_BACKENDS["reference"]())(query, keys_values)
    torch.testing.assert_close(_masked(query, keys_values, mask), expected, atol=1e-5, rtol=1e-5)


def test_flex_attention_replaces_no_backend_with_another_name():
    query = torch.zeros(1, 2, 1, 16)
    assert pair_mask(2, N, query, ATTENTION_BACKENDS["sdpa"]()) is None
    assert pair_mask(2, N, query, ATTENTION_BACKENDS["auto"]()) is None  # flex refuses a CPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the backward pass of flex_attention needs a CUDA device")
@pytest.mark.parametrize(("prefix", "targets"), [(True, CONTEXTS), (False, 2)])
def test_gradients_are_those_of_flex_attention(prefix, targets):
    tensors = streams(targets, dtype=torch.float32, device="cuda")
    expected = flex(tensors, prefix=prefix, attend=torch.compile(flex_attention))
    first = blocked(tensors, prefix=prefix, backend="sdpa")
    assert_same_gradients(first, expected, tensors, atol=5e-3, rtol=1e-2)


def test_own_view_sees_itself_and_all_views_sees_everything():
    query, key, value = (heads(CONTEXTS, seed=seed) for seed in range(3))
    attention, keys_values = ATTENTION_BACKENDS["reference"](), KeyValue(key, value)
    everything, alone = all_views(attention)(query, keys_values), own_view(attention)(query, keys_values)
    last = torch.ones(2, CONTEXTS, N, 2, 16, dtype=torch.float64)
    last[:, -1] = 2.0
    torch.testing.assert_close(own_view(attention)(query, KeyValue(key, value * last))[:, :-1], alone[:, :-1])
    changed = all_views(attention)(query, KeyValue(key, value * last))
    assert ((changed - everything).abs().amax((0, 2, 3, 4)) > 1e-3).all()
