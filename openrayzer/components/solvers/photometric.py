"""Photometric evidence: differences between the image of a point in its own view and in its neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.components.solvers.gauss_newton import Evidence
from openrayzer.components.solvers.projection import Bundle, Lenses, projected
from openrayzer.interfaces import Matches
from openrayzer.layers.image_sampling import as_table, blurred, extent_of, sample_views, with_gradients

DIFFERENCE = 0.15
"""Differences of colours beyond this count less and less (Geman-McClure)."""
_COLOUR_RIDGE = 0.003
"""Variance of colours below which their change stays near the identity."""
_MARGIN = 0.98
"""Points nearer to the border of the image than 1 percent do not count."""
_COMPENSATED_FROM = 0.1
"""Colours of a pair are compensated only if they differ by more than this; otherwise the estimate is noise."""
_SAMPLES_AT_ONCE = 2**16
"""Samples that are compared at once on a CPU."""


@dataclass(frozen=True)
class ColourChange:
    """Change from the colours c of a neighbour, as a row, to those of the view: ``c @ matrix + shift``."""

    matrix: Float[Tensor, "b v k 3 3"]
    shift: Float[Tensor, "b v k 1 3"]


@dataclass(frozen=True)
class BlurredViews:
    """All views at one blur.

    Attributes:
        table: colours and their two derivatives, channels last.
        samples: places of the samples of each point, s per point.
        own: colours of each sample in its own view.
    """

    table: Float[Tensor, "b v h w 9"]
    samples: Float[Tensor, "ns 2"]
    own: Float[Tensor, "b v 3 ns"]


def colour_change(images: Float[Tensor, "n 3 h w"], matches: Matches, sigma: float) -> ColourChange:
    """The change between matched points, from means and standard deviations of each channel.

    Matches are off by a pixel or so. A regression of colours at places that are a little wrong would lose contrast.
    """
    b, v, k, n, _ = matches.places.shape
    table = as_table(blurred(images, sigma), v)
    there = sample_views(table, matches.places.flatten(1, 2), matches.neighbours.flatten(1)).unflatten(1, (v, k))
    views = torch.arange(v, device=images.device).expand(b, v)
    own = sample_views(table, matches.points.expand(b, v, n, 2), views)[:, :, None]
    weights = (matches.weights.square() + 1e-6)[..., None]
    weights = weights / weights.sum(3, keepdim=True)
    mean_there, mean_own = ((weights * colours).sum(3, keepdim=True) for colours in (there, own))
    variance_there = (weights * (there - mean_there).square()).sum(3, keepdim=True)
    variance_own = (weights * (own - mean_own).square()).sum(3, keepdim=True)
    gain = ((variance_own + 1e-4) / (variance_there + 1e-4)).sqrt()
    change = gain.log().abs().mean(4, keepdim=True) + 2 * (mean_own - mean_there).abs().mean(4, keepdim=True)
    differs = (change > _COMPENSATED_FROM).to(gain.dtype)
    gain = 1 + differs * (gain - 1)
    return ColourChange(torch.diag_embed(gain[..., 0, :]), differs * (mean_own - gain * mean_there))


def improved_colours(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange
) -> ColourChange:
    """The change between points and their projections, by robust regression of one sample of each point."""
    every = at.samples.shape[0] // len(matches.points)
    few = replace(at, samples=at.samples[::every], own=at.own[..., ::every])
    found, own, inside = _differences(few, bundle, lens, matches, colours)
    there, own = found[..., :3, :], own[:, :, None]
    weights = inside / (1 + (own - there).square().sum(-2) / DIFFERENCE**2).square() + 1e-6
    weights = (weights / weights.sum(-1, keepdim=True))[..., None, :]
    mean_there, mean_own = ((weights * colour).sum(-1) for colour in (there, own))
    varied = there - mean_there[..., None]
    spread, lacking = ((weights * varied) @ other.mT for other in (varied, own - mean_own[..., None] - varied))
    identity = torch.eye(3, dtype=spread.dtype, device=spread.device)
    factor = torch.linalg.cholesky_ex(spread + _COLOUR_RIDGE * identity)[0]
    matrix = identity + torch.cholesky_solve(lacking, factor)
    return ColourChange(
        colours.matrix @ matrix, (colours.shift - mean_there[..., None, :]) @ matrix + mean_own[..., None, :]
    )


def level(
    images: Float[Tensor, "n 3 h w"], num_views: int, sigma: float, samples: Float[Tensor, "ns 2"]
) -> BlurredViews:
    """All views, blurred by ``sigma`` pixels."""
    table = as_table(with_gradients(blurred(images, sigma)), num_views)
    b = table.shape[0]
    views = torch.arange(num_views, device=table.device).expand(b, num_views)
    own = sample_views(table[..., :3].contiguous(), samples.expand(b, num_views, *samples.shape), views)
    return BlurredViews(table, samples, own.mT.contiguous())


def photometric_evidence(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange, weight: Float[Tensor, " 1"]
) -> Evidence:
    """The wish of every point to move along the image gradient of its neighbours until the colours agree.

    Source: Engel et al. 2018, "Direct Sparse Odometry".
    """
    parts = [
        _evidence(part, few, lens, matches, colours, weight) for part, few in _parts(at, bundle, matches.neighbours)
    ]
    if len(parts) == 1:
        return parts[0]
    return Evidence(*(torch.cat([getattr(part, entry.name) for part in parts], dim=-1) for entry in fields(Evidence)))


def _evidence(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange, weight: Tensor
) -> Evidence:
    found, own, inside = _differences(at, bundle, lens, matches, colours)
    values, along_x, along_y = found.unflatten(-2, (3, 3)).unbind(-3)
    difference = own[:, :, None] - values
    with torch.no_grad():
        robust = inside / (1 + difference.square().sum(-2) / DIFFERENCE**2).square()
    robust = weight * robust
    n = bundle.inverse_depth.shape[-1]

    def total(first: Tensor, second: Tensor) -> Tensor:
        per_sample = robust * (first * second).sum(-2)
        return per_sample.unflatten(-1, (n, -1)).sum(-1).to(bundle.translation.dtype)

    return Evidence(
        total(along_x, along_x), total(along_x, along_y), total(along_y, along_y),
        total(along_x, difference), total(along_y, difference),
    )  # fmt: skip


def _parts(at: BlurredViews, bundle: Bundle, neighbours: Int[Tensor, "b v k"]) -> Iterator[tuple[BlurredViews, Bundle]]:
    """Groups of points. On a CPU, the samples of a group fit into its caches; a GPU takes all points at once."""
    n = bundle.inverse_depth.shape[-1]
    repeats = at.samples.shape[0] // n
    size = n if at.table.is_cuda else max(1, _SAMPLES_AT_ONCE // max(1, neighbours.numel() * repeats))
    for first in range(0, n, size):
        points, samples = slice(first, first + size), slice(first * repeats, (first + size) * repeats)
        part = replace(at, samples=at.samples[samples], own=at.own[..., samples])
        yield part, replace(bundle, inverse_depth=bundle.inverse_depth[:, :, points])


def photometric_cost(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange
) -> Float[Tensor, " b"]:
    """Robust sum of squared differences. A point outside a neighbour costs half of the largest difference."""
    total = bundle.translation.new_zeros(len(bundle.translation))
    for part, few in _parts(at, bundle, matches.neighbours):
        found, own, inside = _differences(part, few, lens, matches, colours)
        squares = (own[:, :, None] - found[..., :3, :]).square().sum(-2)
        total = total + torch.where(inside, squares / (squares + DIFFERENCE**2), 0.5).double().sum((1, 2, 3))
    return total


def _differences(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange
) -> tuple[Tensor, Tensor, Tensor]:
    """Colours and derivatives of the samples in the neighbours, colours in their own view, and visibility."""
    b, v, k = matches.neighbours.shape
    n = bundle.inverse_depth.shape[-1]
    repeats, times = at.samples.shape[0] // n, b // at.table.shape[0]
    depths = bundle.inverse_depth.repeat_interleave(repeats, dim=-1)
    places = projected(bundle, lens, at.samples, depths, matches.neighbours)
    # Several bundles of one scene share the maps of its views.
    wanted = matches.neighbours.reshape(b // times, times * v * k)
    places_of_scene = places.reshape(b // times, times * v * k, repeats * n, 2)
    found = sample_views(at.table, places_of_scene, wanted).reshape(b * v * k, repeats * n, 9)
    # One product changes the colours and both derivatives; only colours have a shift.
    identity = torch.eye(3, dtype=found.dtype, device=found.device)
    matrix = einsum(identity, colours.matrix.flatten(0, 2), "i j, n c d -> n i d j c").flatten(3, 4).flatten(1, 2)
    found = torch.baddbmm(F.pad(colours.shift.flatten(0, 2), (0, 6)).mT, matrix, found.mT).unflatten(0, (b, v, k))
    size = (at.table.shape[2], at.table.shape[3])
    limit = extent_of(size, places) * (_MARGIN / 2)
    seen = (places.abs() < limit).all(-1) & matches.counted[..., None]
    return found, at.own.repeat_interleave(times, dim=0), seen
