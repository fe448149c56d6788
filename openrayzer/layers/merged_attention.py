"""Attention of views to several sources, computed in large blocks whose results are merged by their log-sum-exp.

The softmax over all keys equals a weighted sum of softmaxes over disjoint parts of them, with weights
exp(lse of the part - lse of all). So "view i sees the views before it" needs no mask, no call per view and no masked
work: the later half of the views sees the whole earlier half in one call, and the same inside each half.

Sources of the merging and its gradient: Dao et al. 2022, "FlashAttention", section 3.1, and Liu et al. 2023,
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
    """One softmax over everything that each view sees.

    Args:
        query: of the views that look.
        sources: keys and values, each a tensor of its own, and the queries that meet them. Every query must meet a
            key, and no query may meet a key twice.
        backend: computes the blocks.
    """
    tensors = [tensor for source, _ in sources for tensor in (source.key, source.value)]
    return _Merged.apply(backend, tuple(meetings for _, meetings in sources), query, *tensors)


@dataclass(frozen=True)
class Blocks:
    """``count`` runs of ``size`` neighbouring views, the first run from view ``first``, one every ``stride`` views."""

    first: int
    size: int
    count: int = 1
    stride: int = 0

    def doubled(self) -> "Blocks":
        """The same blocks on an axis where each view is two."""
        return replace(self, first=2 * self.first, size=2 * self.size, stride=2 * self.stride)

    def view(self, values: Float[Tensor, "b v n *rest"]) -> Float[Tensor, "b count size n *rest"]:
        """These views, in the memory of ``values``."""
        if self.count == 1:
            return values[:, None, self.first : self.first + self.size]
        runs = values[:, : self.count * self.stride].unflatten(1, (self.count, self.stride))
        return runs[:, :, self.first : self.first + self.size]

    def heads(self, values: Heads) -> Float[Tensor, "bc sn heads e"]:
        """These views as sequences of tokens, one sequence for each run."""
        return rearrange(self.view(values), "b c s n h e -> (b c) (s n) h e")

    def lse(self, values: Float[Tensor, "b v n heads"]) -> Float[Tensor, "bc heads sn"]:
        """The same for one number per query and head, in the order of attention kernels."""
        return rearrange(self.view(values), "b c s n h -> (b c) h (s n)")

    def unpack(self, values: Float[Tensor, "bc sn heads e"]) -> Float[Tensor, "b count size n heads e"]:
        """The inverse of ``heads``."""
        return rearrange(values, "(b c) (s n) h e -> b c s n h e", c=self.count, s=self.size)

    def unpack_lse(self, values: Float[Tensor, "bc heads sn"]) -> Float[Tensor, "b count size n heads"]:
        """The inverse of ``lse``."""
        return rearrange(values, "(b c) h (s n) -> b c s n h", c=self.count, s=self.size)


BlockPairs = tuple[tuple[Blocks, Blocks], ...]
"""Pairs of a block of queries and a block of keys; the queries see all of these keys."""


def full_blocks(looking: int, shown: int) -> BlockPairs:
    """Each of ``looking`` views sees all of ``shown`` views."""
    return ((Blocks(0, looking), Blocks(0, shown)),)


def diagonal_blocks(views: int) -> BlockPairs:
    """View i sees view i."""
    each = Blocks(0, 1, count=views, stride=1)
    return ((each, each),)


def causal_blocks(views: int) -> BlockPairs:
    """View i sees views 0 to i - 1: of every 2, 4, 8, ... views the second half sees the first."""
    meetings: list[tuple[Blocks, Blocks]] = []
    size = 1
    while size < views:
        pairs = views // (2 * size)
        if pairs:
            meetings.append((Blocks(size, size, pairs, 2 * size), Blocks(0, size, pairs, 2 * size)))
        start = pairs * 2 * size
        if views - start > size:  # the last pair has a shorter second half
            meetings.append((Blocks(start + size, views - start - size), Blocks(start, size)))
        size *= 2
    return tuple(meetings)


def with_query_pairs(meetings: BlockPairs) -> BlockPairs:
    """The same with two queries, side by side on the view axis, in the place of each query."""
    return tuple((queries.doubled(), keys) for queries, keys in meetings)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, backend: AttentionBackend, sources: tuple[BlockPairs, ...], query: Tensor, *tensors: Tensor
    ) -> Tensor:
        parts = []
        for key, value, meetings in zip(tensors[::2], tensors[1::2], sources, strict=True):
            for queries, keys in meetings:
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
        for number, meetings in enumerate(ctx.sources):
            key, value = tensors[2 * number : 2 * number + 2]
            for queries, keys in meetings:
                parts = ctx.backend.attend_backward(
                    queries.heads(gradient), queries.heads(query), keys.heads(key), keys.heads(value),
                    queries.heads(merged), queries.lse(total),
                )  # fmt: skip
                whole = (of_query, of_tensors[2 * number], of_tensors[2 * number + 1])
                for blocks, into, part in zip((queries, keys, keys), whole, parts, strict=True):
                    blocks.view(into).add_(blocks.unpack(part))
        return None, None, *(x.to(given.dtype) for x, given in zip(sums, (query, *tensors), strict=True))
