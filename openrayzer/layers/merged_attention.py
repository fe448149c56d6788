"""Attention of views to several sources, computed in large blocks whose results are merged by their log-sum-exp.

softmax over all keys that a query sees equals a weighted sum of softmaxes over disjoint parts of them, with weights
exp(lse of the part - lse of all). So "view i sees the views before it" needs no mask, no call per view and no work that
a mask throws away: the later half of the views sees the whole earlier half in one call, and so on inside the halves.

Source: for the merging and its gradient, Dao et al. 2022, "FlashAttention", section 3.1, and Liu et al. 2023,
"Ring Attention with Blockwise Transformers".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from openrayzer.interfaces import AttentionBackend
from openrayzer.layers.cosine_attention import Heads, KeyValue

Sees = Literal["own", "prefix", "all"]
"""Of a source's views, view i sees view i, views 0 to i, or all."""


def merged_attention(query: Heads, sources: Sequence[tuple[Sees, KeyValue]], backend: AttentionBackend) -> Heads:
    """One softmax over everything that each view sees.

    Args:
        query: of the views that look.
        sources: what they see, each a tensor of its own. "own" and "prefix" need as many views as look.
        backend: computes the blocks.
    """
    tensors = [tensor for _, source in sources for tensor in (source.key, source.value)]
    return _Merged.apply(backend, tuple(sees for sees, _ in sources), query, *tensors)


@dataclass(frozen=True)
class _Blocks:
    """``count`` runs of ``size`` neighbouring views, the first run from view ``first``, one every ``stride`` views."""

    first: int
    size: int
    count: int = 1
    stride: int = 0

    def view(self, values: Float[Tensor, "b v n *rest"]) -> Float[Tensor, "b count size n *rest"]:
        """These views, in the memory of ``values``."""
        if self.count == 1:
            return values[:, None, self.first : self.first + self.size]
        runs = values[:, : self.count * self.stride].unflatten(1, (self.count, self.stride))
        return runs[:, :, self.first : self.first + self.size]

    def heads(self, values: Heads) -> Float[Tensor, "bc sn heads e"]:
        """The same as sequences of tokens."""
        return rearrange(self.view(values), "b c s n h e -> (b c) (s n) h e")

    def lse(self, values: Float[Tensor, "b v n heads"]) -> Float[Tensor, "bc heads sn"]:
        """The same of numbers that each query and head has one of, in the order of attention kernels."""
        return rearrange(self.view(values), "b c s n h -> (b c) h (s n)")

    def unpack(self, values: Float[Tensor, "bc sn heads e"]) -> Float[Tensor, "b count size n heads e"]:
        """The inverse of ``heads``."""
        return rearrange(values, "(b c) (s n) h e -> b c s n h e", c=self.count, s=self.size)

    def unpack_lse(self, values: Float[Tensor, "bc heads sn"]) -> Float[Tensor, "b count size n heads"]:
        """The inverse of ``lse``."""
        return rearrange(values, "(b c) h (s n) -> b c s n h", c=self.count, s=self.size)


def _blocks(sees: Sees, looking: int, shown: int) -> Iterator[tuple[_Blocks, _Blocks]]:
    """Pairs of queries and keys that together are all that the views see; every pair is seen completely."""
    if sees == "all":
        yield _Blocks(0, looking), _Blocks(0, shown)
        return
    each = _Blocks(0, 1, count=looking, stride=1)
    yield each, each
    size = 1
    while sees == "prefix" and size < looking:  # of every 2 x size views the second half sees the first
        pairs = looking // (2 * size)
        if pairs:
            yield _Blocks(size, size, pairs, 2 * size), _Blocks(0, size, pairs, 2 * size)
        start = pairs * 2 * size
        if looking - start > size:  # the last pair, whose second half is shorter
            yield _Blocks(start + size, looking - start - size), _Blocks(start, size)
        size *= 2


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, backend: AttentionBackend, sees: tuple[Sees, ...], query: Tensor, *tensors: Tensor) -> Tensor:
        parts = []
        for key, value, pairs in _sources(sees, query, tensors):
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
        ctx.backend, ctx.sees = backend, sees
        ctx.save_for_backward(merged, total, query, *tensors)
        return merged

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        merged, total, query, *tensors = ctx.saved_tensors
        sums = [torch.zeros(x.shape, dtype=total.dtype, device=x.device) for x in (query, *tensors)]
        of_query, of_tensors = sums[0], sums[1:]
        for number, (key, value, pairs) in enumerate(_sources(ctx.sees, query, tensors)):
            for queries, keys in pairs:
                parts = ctx.backend.attend_backward(
                    queries.heads(gradient), queries.heads(query), keys.heads(key), keys.heads(value),
                    queries.heads(merged), queries.lse(total),
                )  # fmt: skip
                whole = (of_query, of_tensors[2 * number], of_tensors[2 * number + 1])
                for blocks, into, part in zip((queries, keys, keys), whole, parts, strict=True):
                    blocks.view(into).add_(blocks.unpack(part))
        return None, None, *(x.to(given.dtype) for x, given in zip(sums, (query, *tensors), strict=True))


def _sources(
    sees: tuple[Sees, ...], query: Tensor, tensors: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor, Iterator[tuple[_Blocks, _Blocks]]]]:
    """Key, value and blocks of each source."""
    for kind, key, value in zip(sees, tensors[::2], tensors[1::2], strict=True):
        yield key, value, _blocks(kind, query.shape[1], key.shape[1])
