"""Attention of views to several sets of keys, computed in large blocks and merged by their log-sum-exp.

Split the keys into disjoint parts. Then the attention to all keys is a weighted sum of the attentions to each part,
with weights exp(lse of the part - lse of all keys); lse is the log-sum-exp of the scores.

So "view i sees the views before it" needs no mask, no call per view, and no scores that a mask removes. One call lets
the later half of the views see the whole earlier half, and the same rule applies within each half.

Sources for the merge and its gradient: Dao et al. 2022, "FlashAttention", section 3.1, and Liu et al. 2023,
"Ring Attention with Blockwise Transformers".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from openrayzer.interfaces import AttentionBackend
from openrayzer.layers.cosine_attention import Heads, KeyValue


def merged_attention(
    query: Heads, sources: Sequence[tuple[KeyValue, "BlockPairs"]], backend: AttentionBackend
) -> Heads:
    """Attention of each query with one softmax over all keys that it sees.

    Args:
        query: queries.
        sources: sets of keys and values, each with the pairs of blocks of queries and keys that see each other. Each
            query must see at least one key, and no key twice.
        backend: computes the attention of each pair of blocks.
    """
    tensors = [tensor for source, _ in sources for tensor in (source.key, source.value)]
    return _Merged.apply(backend, tuple(pairs for _, pairs in sources), query, *tensors)


@dataclass(frozen=True)
class Blocks:
    """Blocks of views at regular distances on the view axis.

    Attributes:
        first: first view of the first block.
        size: number of consecutive views in each block.
        count: number of blocks.
        stride: distance from the first view of a block to the first view of the next.
    """

    first: int
    size: int
    count: int = 1
    stride: int = 0

    def doubled(self) -> "Blocks":
        """The same blocks on a view axis on which each view stands twice in a row."""
        return replace(self, first=2 * self.first, size=2 * self.size, stride=2 * self.stride)

    def view(self, values: Float[Tensor, "b v n *rest"]) -> Float[Tensor, "b count size n *rest"]:
        """The blocks of ``values``; the result shares its memory."""
        if self.count == 1:
            return values[:, None, self.first : self.first + self.size]
        periods = values[:, : self.count * self.stride].unflatten(1, (self.count, self.stride))
        return periods[:, :, self.first : self.first + self.size]

    def heads(self, values: Heads) -> Float[Tensor, "bc sn heads e"]:
        """The tokens of each block as one sequence."""
        return rearrange(self.view(values), "b c s n h e -> (b c) (s n) h e")

    def lse(self, values: Float[Tensor, "b v n heads"]) -> Float[Tensor, "bc heads sn"]:
        """One value per query and head (e.g. the log-sum-exp) of each block, in the layout of attention kernels."""
        return rearrange(self.view(values), "b c s n h -> (b c) h (s n)")

    def unpack(self, values: Float[Tensor, "bc sn heads e"]) -> Float[Tensor, "b count size n heads e"]:
        """The inverse of ``heads``."""
        return rearrange(values, "(b c) (s n) h e -> b c s n h e", c=self.count, s=self.size)

    def unpack_lse(self, values: Float[Tensor, "bc heads sn"]) -> Float[Tensor, "b count size n heads"]:
        """The inverse of ``lse``."""
        return rearrange(values, "(b c) h (s n) -> b c s n h", c=self.count, s=self.size)


BlockPairs = tuple[tuple[Blocks, Blocks], ...]
"""Pairs of blocks: the queries of the first see all keys of the second. Together they stand for an attention mask."""


def full_blocks(query_views: int, key_views: int) -> BlockPairs:
    """The full mask: each query view sees all key views."""
    return ((Blocks(0, query_views), Blocks(0, key_views)),)


def diagonal_blocks(views: int) -> BlockPairs:
    """The diagonal mask: view i sees view i."""
    each = Blocks(0, 1, count=views, stride=1)
    return ((each, each),)


def causal_blocks(views: int) -> BlockPairs:
    """The strictly causal mask: view i sees views 0 to i - 1.

    Among every 2, then 4, 8, ... views, the second half sees the first half.
    """
    found: list[tuple[Blocks, Blocks]] = []
    size = 1
    while size < views:
        pairs = views // (2 * size)
        if pairs:
            found.append((Blocks(size, size, pairs, 2 * size), Blocks(0, size, pairs, 2 * size)))
        start = pairs * 2 * size
        if views - start > size:  # the last pair has a shorter second half
            found.append((Blocks(start + size, views - start - size), Blocks(start, size)))
        size *= 2
    return tuple(found)


def with_query_pairs(pairs: BlockPairs) -> BlockPairs:
    """The same mask with two consecutive query views in place of each query view."""
    return tuple((queries.doubled(), keys) for queries, keys in pairs)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, backend: AttentionBackend, sources: tuple[BlockPairs, ...], query: Tensor, *tensors: Tensor
    ) -> Tensor:
        parts = []
        for key, value, pairs in zip(tensors[::2], tensors[1::2], sources, strict=True):
            for queries, keys in pairs:
                out, lse = backend.attend_with_lse(queries.heads(query), keys.heads(key), keys.heads(value))
                parts.append((queries, queries.unpack(out), queries.unpack_lse(lse)))
        total = torch.full(query.shape[:-1], -torch.inf, dtype=parts[0][2].dtype, device=query.device)
        for queries, _, lse in parts:
            place = queries.view(total)
            place.copy_(torch.logaddexp(place, lse))
        merged = torch.zeros(query.shape, dtype=total.dtype, device=query.device)
        for queries, out, lse in parts:
            queries.view(merged).addcmul_(out.to(merged.dtype), (lse - queries.view(total)).exp()[..., None])
        merged = merged.to(query.dtype)
        ctx.backend, ctx.sources = backend, sources
        ctx.save_for_backward(merged, total, query, *tensors)
        return merged

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        merged, total, query, *tensors = ctx.saved_tensors
        sums = [torch.zeros(x.shape, dtype=total.dtype, device=x.device) for x in (query, *tensors)]
        of_query, of_tensors = sums[0], sums[1:]
        for number, pairs in enumerate(ctx.sources):
            key, value = tensors[2 * number : 2 * number + 2]
            for queries, keys in pairs:
                parts = ctx.backend.attend_backward(
                    queries.heads(gradient), queries.heads(query), keys.heads(key), keys.heads(value),
                    queries.heads(merged), queries.lse(total),
                )  # fmt: skip
                whole = (of_query, of_tensors[2 * number], of_tensors[2 * number + 1])
                for blocks, into, part in zip((queries, keys, keys), whole, parts, strict=True):
                    blocks.view(into).add_(blocks.unpack(part))
        return None, None, *(x.to(given.dtype) for x, given in zip(sums, (query, *tensors), strict=True))
