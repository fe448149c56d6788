"""Blending of ellipses in tiles, front to back, with a backward pass of its own.

In a tile, the exponent of a Gaussian is a polynomial of degree 2 of the pixel. About the tile's centre, the exponents
of all Gaussians and pixels are one matrix product of coefficients and monomials. Gradients take the same way back.
Nothing of the size Gaussians x pixels is stored between the passes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from openrayzer.components.rasterisers.ellipses import FAINTEST
from openrayzer.components.rasterisers.tile_lists import TileLists
from openrayzer.geometry.precision import no_autocast
from openrayzer.layers.tf32 import exact_float32

MOST_OPAQUE = 0.999
"""Upper limit of the share of light that one Gaussian stops in a pixel."""

STOP = 1e-4
"""A pixel takes no further Gaussians once less than this share of light would pass."""

SEGMENT = 64
"""Number of Gaussians of a tile in one step; after each step, finished tiles drop out."""

NOTHING = -1e3
"""Logarithm of the opacity of the Gaussian that fills up short lists."""


@dataclass(frozen=True)
class Segment:
    """The next Gaussians of some tiles, front to back, and the light that reaches them.

    Attributes:
        tiles: numbers of the tiles.
        members: their next l Gaussians; the end of a list is filled up with ``gaussians``, the number of Gaussians.
        light: product of (1 - alpha) over all Gaussians in front, at each of the p pixels.
    """

    tiles: Int[Tensor, " t"]
    members: Int[Tensor, "t l"]
    light: Float[Tensor, "t p"]


def blend(
    ellipses: Float[Tensor, "6 gaussians"], values: Float[Tensor, "c gaussians"], lists: TileLists, *, pairs: int
) -> tuple[Float[Tensor, "tiles c p"], Float[Tensor, "tiles p"]]:
    """Sums of values over the Gaussians of each tile, and the share of light that passes all of them.

    The weight of a Gaussian in a pixel is its alpha times the product of (1 - alpha) over all Gaussians in front.

    Args:
        ellipses: x and y of the centre, the entries (0, 0), (0, 1), (1, 1) of the conic, the logarithm of the opacity.
        values: c values of each Gaussian.
        lists: the Gaussians of each tile, which has p pixels.
        pairs: number of pairs of a Gaussian and a pixel in one step; memory grows with it.

    Source: Kerbl et al. 2023, "3D Gaussian Splatting for Real-Time Radiance Field Rendering", equation 3; thresholds of
    gsplat.
    """
    return _Blend.apply(ellipses, values, lists, pairs)


class _Blend(torch.autograd.Function):
    """``blend`` with gradients of ellipses and values; visibility, order, thresholds and stops are constants."""

    @staticmethod
    def forward(ctx: Any, ellipses: Tensor, values: Tensor, lists: TileLists, pairs: int) -> tuple[Tensor, Tensor]:
        scene = _TiledScene(ellipses, values, lists)
        tiles, p = len(lists.counts), lists.side**2
        sums, passed = values.new_zeros(tiles, len(values), p), values.new_ones(tiles, p)
        ctx.segments = []
        with no_autocast(values), exact_float32():
            for group, begin in _groups(lists, max(1, pairs // (SEGMENT * p))):
                left, light = lists.counts[group], values.new_ones(len(group), p)
                while len(group):
                    segment = Segment(group, _next_members(lists, begin, left, filler=values.shape[1]), light)
                    rows = scene.rows(segment)
                    alpha, light = scene.shares(segment, rows)
                    passed[group] = _light_behind(light, passed[group])
                    alpha.mul_(light[:, :-1])
                    sums[group] += torch.bmm(rows[6:].unflatten(1, segment.members.shape).movedim(1, 0), alpha)
                    ctx.segments.append(segment)
                    light, left, begin = light[:, -1], left - SEGMENT, begin + SEGMENT
                    group, begin, left, light = _unfinished(group, begin, left, light)
        ctx.lists = lists
        ctx.save_for_backward(ellipses, values)
        return sums, passed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums: Tensor, of_passed: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        """The derivative by alpha is light * (value - behind); ``behind`` is the blend of all values farther back."""
        ellipses, values = ctx.saved_tensors
        scene = _TiledScene(ellipses, values, ctx.lists)
        gradient = torch.zeros_like(scene.table)
        behind = of_passed.clone()
        limited = bool((ellipses[5] >= math.log(MOST_OPAQUE)).any())
        with no_autocast(values), exact_float32():
            for segment in reversed(ctx.segments):
                rows = scene.rows(segment)
                alpha, light = scene.shares(segment, rows)
                incoming = of_sums[segment.tiles]
                by_alpha = torch.bmm(rows[6:].unflatten(1, segment.members.shape).movedim(0, 2), incoming)
                rear = behind[segment.tiles]
                for value, share in zip(
                    reversed(by_alpha.unbind(1)), reversed(alpha.unbind(1)), strict=True
                ):  # value - behind, then behind += alpha * (value - behind)
                    value.sub_(rear)
                    rear.addcmul_(share, value)
                behind[segment.tiles] = rear
                if limited:
                    by_alpha.masked_fill_(alpha >= MOST_OPAQUE, 0.0)
                alpha.mul_(light[:, :-1])
                by_alpha.mul_(alpha)  # the derivative by the exponent
                of_values = torch.bmm(incoming, alpha.mT).movedim(1, 0).flatten(1)
                of_ellipses = scene.through_exponents(segment, rows, by_alpha)
                gradient.index_add_(1, segment.members.flatten(), torch.cat([of_ellipses, of_values]))
        return gradient[:6, :-1], gradient[6:, :-1], None, None


class _TiledScene:
    """Exponents and alphas of segments.

    Args:
        ellipses: as for ``blend``.
        values: as for ``blend``.
        lists: as for ``blend``.
    """

    def __init__(self, ellipses: Tensor, values: Tensor, lists: TileLists) -> None:
        filler = ellipses.new_zeros(6, 1)
        filler[5] = NOTHING
        self.table = torch.cat([torch.cat([ellipses, filler], dim=1), F.pad(values, (0, 1))])
        self.centres = lists.origins().to(ellipses.dtype) + lists.side / 2
        steps = torch.arange(lists.side, device=ellipses.device, dtype=ellipses.dtype) + 0.5 - lists.side / 2
        v, u = (axis.flatten() for axis in torch.meshgrid(steps, steps, indexing="ij"))
        self.monomials = torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v])

    def rows(self, segment: Segment) -> Float[Tensor, "columns entries"]:
        """Ellipses and values of the members; x and y count from the centre of the tile."""
        rows = self.table.index_select(1, segment.members.flatten())
        rows[:2].unflatten(1, segment.members.shape).sub_(self.centres[:, segment.tiles, None])
        return rows

    def shares(
        self, segment: Segment, rows: Float[Tensor, "columns entries"]
    ) -> tuple[Float[Tensor, "t l p"], Float[Tensor, "t before_and_after p"]]:
        """The alpha of each member, and the light before each member and after the last."""
        x, y, xx, xy, yy, log_opacity = rows[:6]
        by_x, by_y = xx * x + xy * y, xy * x + yy * y
        constant = log_opacity - (x * by_x + y * by_y) / 2
        coefficients = torch.stack([constant, by_x, by_y, -xx / 2, -xy, -yy / 2])
        alpha = torch.mm(coefficients.mT, self.monomials).exp_().clamp_(max=MOST_OPAQUE)
        alpha = torch.threshold_(alpha, FAINTEST, 0.0).unflatten(0, segment.members.shape)
        light = alpha.new_empty(alpha.shape[0], alpha.shape[1] + 1, alpha.shape[2])
        light[:, 0] = segment.light
        steps = light.unbind(1)
        for before, share, after in zip(steps, alpha.unbind(1), steps[1:], strict=False):
            torch.addcmul(before, before, share, value=-1, out=after)
        if light[:, -1].amin() <= STOP:
            alpha.masked_fill_(light[:, 1:] <= STOP, 0.0)
        return alpha, light

    def through_exponents(
        self, segment: Segment, rows: Float[Tensor, "columns entries"], gradient: Float[Tensor, "t l p"]
    ) -> Float[Tensor, "6 entries"]:
        """The gradient of the members' ellipses, from that of the exponents."""
        x, y, xx, xy, yy, _ = rows[:6]
        of_constant, of_u, of_v, of_uu, of_uv, of_vv = torch.mm(self.monomials, gradient.flatten(0, 1).mT)
        return torch.stack(
            [
                xx * (of_u - x * of_constant) + xy * (of_v - y * of_constant),
                xy * (of_u - x * of_constant) + yy * (of_v - y * of_constant),
                x * of_u - (x * x * of_constant + of_uu) / 2,
                x * of_v + y * of_u - x * y * of_constant - of_uv,
                y * of_v - (y * y * of_constant + of_vv) / 2,
                of_constant,
            ]
        )


def _groups(lists: TileLists, size: int) -> Iterator[tuple[Int[Tensor, " t"], Int[Tensor, " t"]]]:
    """Tiles with lists of similar length, and the place of the first member of each list; long lists first."""
    begin = lists.counts.cumsum(0) - lists.counts
    order = lists.counts.argsort(descending=True)
    for group in order[: int(lists.counts.count_nonzero())].split(size):
        yield group, begin[group]


def _next_members(
    lists: TileLists, begin: Int[Tensor, " t"], left: Int[Tensor, " t"], *, filler: int
) -> Int[Tensor, "t l"]:
    steps = torch.arange(min(SEGMENT, int(left.max())), device=begin.device)
    places = (begin[:, None] + steps).clamp(max=len(lists.members) - 1)
    return torch.where(steps < left[:, None], lists.members[places], filler)


def _light_behind(light: Float[Tensor, "t steps p"], before: Float[Tensor, "t p"]) -> Float[Tensor, "t p"]:
    """The light that passes the last Gaussian that counts. A pixel that stopped earlier keeps its value ``before``."""
    if light[:, -1].amin() > STOP:
        return light[:, -1]
    least = torch.where(light > STOP, light, torch.inf).amin(1)
    return torch.where(least.isfinite(), least, before)


def _unfinished(
    group: Int[Tensor, " t"], begin: Int[Tensor, " t"], left: Int[Tensor, " t"], light: Float[Tensor, "t p"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The tiles that have further Gaussians and a pixel that takes them."""
    keep = ((left > 0) & (light.amax(1) > STOP)).nonzero()[:, 0]
    return group[keep], begin[keep], left[keep], light[keep]
