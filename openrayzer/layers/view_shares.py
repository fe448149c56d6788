"""Sequence parallelism: several processes compute with the same clips, each with a share of the views.

Each process has consecutive views of every clip. Layers that process each view alone need no communication. Attention
among views exchanges two axes of queries, keys and values: before it, a process has all heads of the tokens of its
views; inside, it has the tokens of all views and a share of the heads; afterwards, all heads of its own tokens again.

All operations here use one exchange of tensors, whose gradient is the same exchange in the other direction. If the loss
of a clip is the mean of the losses of its processes, the mean of their gradients is the gradient of the clip. Training
takes this mean over all processes anyway, so the optimizer needs no special case.

Source: Jacobs et al. 2023, "DeepSpeed Ulysses".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import AttentionBackend, InputError
from openrayzer.layers.attention import CrossAttention, SelfAttention
from openrayzer.types import map_tensors

T = TypeVar("T")
Exchange = Callable[[Float[Tensor, "processes ..."]], Float[Tensor, "processes ..."]]
"""Sends row i of a tensor to process i. Row i of the result comes from process i. It is differentiable."""


def _no_exchange(rows: Float[Tensor, "processes ..."]) -> Float[Tensor, "processes ..."]:
    return rows


@dataclass(frozen=True)
class ViewShares:
    """The division of the views of clips among several processes.

    With one process, each method returns its arguments.

    Attributes:
        count: number of processes S that share each clip.
        number: number of this process among them.
        exchange: exchanges tensors among them.
    """

    count: int = 1
    number: int = 0
    exchange: Exchange = _no_exchange

    def own(self, values: T, what: str = "views", *, fill: bool = False) -> T:
        """The share of this process of ``values``, which all processes have: tensors (b, v, ...) to (b, v / S, ...).

        Args:
            values: a tensor, or a structure of tensors such as ``Cameras``.
            what: name of the second axis, for the error message.
            fill: whether copies of the last view fill up to a multiple of S.

        Raises:
            InputError: S does not divide v, and ``fill`` is False.
        """
        return values if self.count == 1 else map_tensors(values, lambda tensor: self._own(tensor, what, fill=fill))

    def _own(self, values: Tensor, what: str, *, fill: bool) -> Tensor:
        given = values.shape[1]
        if given % self.count and not fill:
            raise InputError(
                f"train.sequence_parallel {self.count} does not divide the {given} {what} of a clip; "
                f"{_divisors(given)} would work"
            )
        size = -(-given // self.count)
        start, stop = self.number * size, (self.number + 1) * size
        if stop <= given:
            return values[:, start:stop]
        return values[:, torch.arange(start, stop, device=values.device).clamp(max=given - 1)]

    def compared(self, views: int) -> tuple[slice, float]:
        """The views that this process compares in a mean over ``views`` views, and the weight of its part.

        S need not divide the number. A process without views compares one view with weight 0. The mean of the weighted
        parts of all processes is the mean over all views.
        """
        first, after = (number * views // self.count for number in (self.number, self.number + 1))
        return slice(first, max(after, first + 1)), (after - first) * self.count / views

    def whole(self, values: T) -> T:
        """The shares of all processes in order: tensors (b, v / S, ...) to (b, v, ...)."""
        return values if self.count == 1 else map_tensors(values, self._whole)

    def _whole(self, values: Tensor) -> Tensor:
        return rearrange(self.exchange(values.expand(self.count, *values.shape)), "s b v ... -> b (s v) ...")

    def by_heads(self, *heads: Float[Tensor, "b n *rest heads e"]) -> list[Float[Tensor, "b all_n *rest own_heads e"]]:
        """From all heads of the tokens of this process to its share of the heads of all tokens.

        Tensors of one shape travel in one exchange.
        """
        if self.count == 1:
            return list(heads)
        if len({values.shape for values in heads}) > 1:
            return [values for one in heads for values in self.by_heads(one)]
        rows = rearrange(torch.cat(heads), "b n ... (s h) e -> s b n ... h e", s=self.count)
        return list(rearrange(self.exchange(rows), "s b n ... h e -> b (s n) ... h e").chunk(len(heads)))

    def by_views(self, heads: Float[Tensor, "b all_n *rest own_heads e"]) -> Float[Tensor, "b n *rest heads e"]:
        """The inverse of ``by_heads``, for one tensor."""
        if self.count == 1:
            return heads
        rows = rearrange(heads, "b (s n) ... h e -> s b n ... h e", s=self.count)
        return rearrange(self.exchange(rows), "s b n ... h e -> b n ... (s h) e")

    def attention(self, backend: AttentionBackend) -> AttentionBackend:
        """Attention among the tokens of all processes, computed by ``backend``."""
        return backend if self.count == 1 else SharedAttention(backend, self)


UNSHARED = ViewShares()
"""One process has all views."""


class SharedAttention(AttentionBackend):
    """Attention of the tokens of this process to the keys of all processes.

    Each process must have the same number of tokens. Their order has no influence.

    Args:
        inner: computes the attention of a share of the heads.
        shares: the processes.
    """

    def __init__(self, inner: AttentionBackend, shares: ViewShares) -> None:
        self.inner, self.shares = inner, shares

    def refusal(self, query: Float[Tensor, "b n heads e"]) -> str:
        return self.inner.refusal(query)

    def attend(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        if query.shape == key.shape:
            queries, keys, values = self.shares.by_heads(query, key, value)
        else:
            queries, keys, values = *self.shares.by_heads(query), *self.shares.by_heads(key, value)
        return self.shares.by_views(self.inner.attend(queries, keys, values))


class SharesViews:
    """Base of modules that can compute with a share of the views.

    Attributes:
        given_shares: the division of views in training; ``share_views`` sets it.
        training: as in every module.
    """

    training: bool
    given_shares: ViewShares = UNSHARED

    @property
    def shares(self) -> ViewShares:
        """The division of views now: outside of training, one process has all views."""
        return self.given_shares if self.training else UNSHARED


def share_views(model: nn.Module, shares: ViewShares) -> None:
    """Have all modules of ``model`` divide views in training.

    In training, the methods of the model still take all views and return all cameras and images, on each process. Only
    its scenes are divided.
    """
    for module in model.modules():
        if isinstance(module, SharesViews):
            module.given_shares = shares


def check_heads(model: nn.Module, processes: int) -> None:
    """Refuse a number of processes that does not divide the attention heads of ``model``.

    Raises:
        InputError: the message gives numbers that do.
    """
    for module in model.modules():
        if isinstance(module, SelfAttention | CrossAttention):
            check_number_of_heads(module.num_heads, processes)


def check_number_of_heads(heads: int, processes: int) -> None:
    """``check_heads`` for one attention layer."""
    if heads % processes:
        raise InputError(f"{processes} does not divide the {heads} attention heads; {_divisors(heads)} would work")


def _divisors(number: int) -> str:
    found = [str(one) for one in range(1, number + 1) if number % one == 0]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"
