"""Attention among views: each function returns an ``Attend`` with its own rule about the views that a view sees.

The functions use no masks: they call the attention backend only with the keys that the queries see, so every backend
works. The number of calls is one, or grows with the logarithm of the number of views. Only compiled blocks on a GPU may
use a mask, see ``pair_mask``.
"""

from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend
from openrayzer.layers.constants import cached
from openrayzer.layers.cosine_attention import Attend, Heads, KeyValue
from openrayzer.layers.merged_attention import (
    Blocks,
    causal_blocks,
    diagonal_blocks,
    full_blocks,
    merged_attention,
    with_query_pairs,
)
from openrayzer.layers.view_shares import ViewShares


def own_view(backend: AttentionBackend) -> Attend:
    """Each view sees only itself."""
    return partial(_own_view, backend=backend)


def all_views(backend: AttentionBackend) -> Attend:
    """Each view sees all views."""
    return partial(_all_views, backend=backend)


def earlier_views(backend: AttentionBackend, memory: KeyValue | None = None) -> Attend:
    """View i sees views 0 to i and, if given, all views in ``memory``."""
    return partial(_earlier_views, memory=memory, backend=backend)


def memory_and_own_view(memory: KeyValue, *, backend: AttentionBackend) -> Attend:
    """Each view sees itself and all views in ``memory``."""
    return partial(_memory_and_own_view, memory=memory, backend=backend)


def contexts_and_targets(backend: AttentionBackend, mask: Any = None) -> Attend:
    """Views alternate: context 0, target 0, context 1, target 1, ...

    Context i sees contexts 0 to i. Target i sees contexts 0 to i and itself.

    Args:
        backend: computes the attention in blocks.
        mask: result of ``pair_mask``, or None. With a mask, ``torch.compile`` makes one call of FlexAttention instead.
    """
    return partial(_contexts_and_targets, backend=backend, mask=mask)


def among_processes(attend: Attend, shares: ViewShares) -> Attend:
    """``attend`` for the views of all processes that share a clip; queries, keys and values are those of this process.

    Keys and values that ``attend`` holds must be those of all views, with the share of heads of this process.
    """
    return attend if shares.count == 1 else partial(_among_processes, attend=attend, shares=shares)


def with_own_heads(keys_values: KeyValue, shares: ViewShares) -> KeyValue:
    """Keys and values of the views of all processes, with the share of heads of this process."""
    return KeyValue(*shares.by_heads(keys_values.key, keys_values.value))


def pair_mask(pairs: int, tokens: int, heads: Float[Tensor, "b n heads e"], backend: AttentionBackend) -> Any:
    """The mask of ``contexts_and_targets`` as a ``BlockMask`` of FlexAttention; None if FlexAttention does not run.

    Args:
        pairs: number of contexts, which is the number of targets.
        tokens: number of tokens of each view.
        heads: an example of the queries: attention gets the same device, dtype and head width.
        backend: FlexAttention replaces the backends ``auto`` and ``flex``. For any other backend the result is None.
    """
    if not isinstance(backend, ATTENTION_BACKENDS["auto"] | ATTENTION_BACKENDS["flex"]):
        return None
    return None if ATTENTION_BACKENDS["flex"]().refusal(heads) else _block_mask(pairs, tokens, heads.device.type)


@cached
def _block_mask(pairs: int, tokens: int, device: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask  # slow import (1 s)

    length = 2 * pairs * tokens
    return create_block_mask(
        lambda batch, head, query, key: (
            (query // tokens == key // tokens)
            | ((key // tokens % 2 == 0) & (key // tokens <= query // tokens))
        ),
        None, None, length, length, device=device,
    )  # fmt: skip


def _among_processes(query: Heads, keys_values: KeyValue, *, attend: Attend, shares: ViewShares) -> Heads:
    queries, keys, values = shares.by_heads(query, keys_values.key, keys_values.value)
    return shares.by_views(attend(queries, KeyValue(keys, values)))


def _own_view(query: Heads, keys_values: KeyValue, *, backend: AttentionBackend) -> Heads:
    parts = (rearrange(x, "b v n h e -> (b v) n h e") for x in (query, keys_values.key, keys_values.value))
    return rearrange(backend.attend(*parts), "(b v) n h e -> b v n h e", v=query.shape[1])


def _all_views(query: Heads, keys_values: KeyValue, *, backend: AttentionBackend) -> Heads:
    parts = (rearrange(x, "b v n h e -> b (v n) h e") for x in (query, keys_values.key, keys_values.value))
    return rearrange(backend.attend(*parts), "b (v n) h e -> b v n h e", v=query.shape[1])


def _earlier_views(query: Heads, keys_values: KeyValue, *, memory: KeyValue | None, backend: AttentionBackend) -> Heads:
    views = query.shape[1]
    sources = [(keys_values, diagonal_blocks(views) + causal_blocks(views))]
    if memory is not None:
        sources.append((memory, full_blocks(views, memory.key.shape[1])))
    return merged_attention(query, sources, backend)


def _memory_and_own_view(query: Heads, keys_values: KeyValue, *, memory: KeyValue, backend: AttentionBackend) -> Heads:
    views = query.shape[1]
    sources = [(keys_values, diagonal_blocks(views)), (memory, full_blocks(views, memory.key.shape[1]))]
    return merged_attention(query, sources, backend)


def _contexts_and_targets(query: Heads, keys_values: KeyValue, *, backend: AttentionBackend, mask: Any) -> Heads:
    if mask is not None and torch.compiler.is_compiling():
        return _masked(query, keys_values, mask)
    pairs = query.shape[1] // 2
    contexts = KeyValue(keys_values.key[:, ::2].contiguous(), keys_values.value[:, ::2].contiguous())
    target_and_context = (Blocks(1, 1, pairs, 2), Blocks(0, 1, pairs, 1))
    seen = (target_and_context, *with_query_pairs(causal_blocks(pairs)))
    return merged_attention(query, [(keys_values, diagonal_blocks(2 * pairs)), (contexts, seen)], backend)


def _masked(query: Heads, keys_values: KeyValue, mask: Any) -> Heads:
    from torch.nn.attention.flex_attention import flex_attention

    parts = [rearrange(x, "b v n h e -> b h (v n) e") for x in (query, keys_values.key, keys_values.value)]
    read = flex_attention(parts[0], parts[1], parts[2], block_mask=mask)
    return rearrange(read, "b h (v n) e -> b v n h e", v=query.shape[1])
