"""Attention in blocks merged by log-sum-exp: visible views, values, gradients and the number of calls."""

import math

import pytest
import torch

from openrayzer.interfaces import ATTENTION_BACKENDS
from openrayzer.layers.cosine_attention import KeyValue
from openrayzer.layers.merged_attention import BlockPairs, causal_blocks, diagonal_blocks, full_blocks, merged_attention

N, HEADS, WIDTH = 3, 2, 16
NAMES = [entry.name for entry in ATTENTION_BACKENDS]


def heads(views: int, *, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, views, N, HEADS, WIDTH, generator=generator, dtype=dtype).requires_grad_()


def runnable(name: str):
    backend = ATTENTION_BACKENDS[name]()
    if refusal := backend.refusal(torch.zeros(1, 1, HEADS, WIDTH)):
        pytest.skip(f"{name}: {refusal}")
    return backend


def times_seen(pairs: BlockPairs, query_views: int, key_views: int) -> torch.Tensor:
    """How often each query view sees each key view in the blocks, (query_views, key_views)."""
    count = torch.zeros(query_views, key_views, dtype=torch.int64)
    rows = torch.arange(float(query_views)).reshape(1, query_views, 1, 1, 1)
    columns = torch.arange(float(key_views)).reshape(1, key_views, 1, 1, 1)
    for queries, keys in pairs:
        for row, column in zip(queries.heads(rows)[..., 0, 0], keys.heads(columns)[..., 0, 0], strict=True):
            count[row.long()[:, None], column.long()[None]] += 1
    return count


@pytest.mark.parametrize("views", [*range(1, 18), 23, 24, 31, 33])
def test_blocks_hold_each_visible_pair_of_views_once(views):
    assert torch.equal(
        times_seen(causal_blocks(views), views, views), torch.ones(views, views, dtype=torch.int64).tril(-1)
    )
    assert torch.equal(times_seen(diagonal_blocks(views), views, views), torch.eye(views, dtype=torch.int64))
    assert torch.equal(times_seen(full_blocks(views, 5), views, 5), torch.ones(views, 5, dtype=torch.int64))


@pytest.mark.parametrize("views", [2, 8, 23, 64])
def test_calls_grow_with_the_logarithm_of_the_number_of_views(views):
    assert len(causal_blocks(views)) <= 2 * math.ceil(math.log2(views))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_backend_gives_the_log_sum_exp_beside_the_result(name, dtype):
    backend = runnable(name)
    query, key, value = (heads(1, seed=seed, dtype=dtype).detach()[:, 0] for seed in range(3))
    out, lse = backend.attend_with_lse(query, key, value)
    torch.testing.assert_close(out, backend.attend(query, key, value))
    scores = torch.einsum("bnhe,bmhe->bhnm", query, key) / WIDTH**0.5
    torch.testing.assert_close(lse, scores.logsumexp(-1))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_merged_blocks_are_those_of_one_masked_attention(name):
    backend, views = runnable(name), 7
    query, key, value, other_key, other_value = (heads(views, seed=seed) for seed in range(5))
    merged = merged_attention(
        query,
        [
            (KeyValue(other_key, other_value), diagonal_blocks(views)),
            (KeyValue(key, value), diagonal_blocks(views) + causal_blocks(views)),
        ],
        backend,
    )
    seen = torch.cat([torch.ones(views, views).tril(), torch.eye(views)], dim=1).bool()
    seen = seen.repeat_interleave(N, 0).repeat_interleave(N, 1)
    queries = query.flatten(1, 2).transpose(1, 2)
    keys, values = (
        torch.cat(pair, 1).flatten(1, 2).transpose(1, 2) for pair in ((key, other_key), (value, other_value))
    )
    scores = (queries @ keys.mT / WIDTH**0.5).masked_fill(~seen, -torch.inf)
    masked = (scores.softmax(-1) @ values).transpose(1, 2).unflatten(1, (views, N))
    torch.testing.assert_close(merged, masked)
    wanted = heads(views, seed=9).detach()
    tensors = (query, key, value, other_key, other_value)
    for ours, theirs in zip(
        torch.autograd.grad((merged * wanted).sum(), tensors),
        torch.autograd.grad((masked * wanted).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_blocks_round_as_one_call_does(name):
    backend = runnable(name)
    query, key, value = (heads(8, seed=seed, dtype=torch.bfloat16) for seed in range(3))
    seen = diagonal_blocks(8) + causal_blocks(8)
    exact = merged_attention(
        query.float(), [(KeyValue(key.float(), value.float()), seen)], ATTENTION_BACKENDS["reference"]()
    )
    merged = merged_attention(query, [(KeyValue(key, value), seen)], backend)
    assert merged.dtype == torch.bfloat16
    torch.testing.assert_close(merged.float(), exact, atol=3e-2, rtol=0)
