"""Photometric evidence: differences between the image of a point in its own view and in its neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.components.solvers.gauss_newton import Evidence
from openrayzer.components.solvers.projection import Bundle, Lenses, projected
from openrayzer.interfaces import Matches
from openrayzer.layers.image_sampling import as_table, blurred, extent_of, sample_views, with_gradients

DIFFERENCE = 0.15
"""Differences of features beyond this count less and less (Geman-McClure)."""
_MARGIN = 0.98
"""Points nearer to the border of the image than 1 percent do not count."""
_COMPENSATED_FROM = 0.1
"""Colours of a pair are compensated only if they differ by more than this; otherwise the estimate is noise."""
_SAMPLES_AT_ONCE = 2**16
"""Samples that are compared at once on a CPU."""


@dataclass(frozen=True)
class ColourChange:
    """Gain and shift of each channel that turn the colours of a neighbour into those of the view."""

    gain: Float[Tensor, "b v k 1 3"]
    shift: Float[Tensor, "b v k 1 3"]


@dataclass(frozen=True)
class BlurredViews:
    """Features of all views at one blur.

    Attributes:
        table: features and their two derivatives, channels last.
        samples: places of the samples of each point, s per point.
        own: features of each sample in its own view.
    """

    table: Float[Tensor, "b v h w c3"]
    samples: Float[Tensor, "ns 2"]
    own: Float[Tensor, "b v ns c"]


def colour_change(images: Float[Tensor, "n 3 h w"], matches: Matches, sigma: float) -> ColourChange:
    """Means and variances of the colours of matched points, compared for each pair of views."""
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
    return ColourChange(gain, differs * (mean_own - gain * mean_there))


def level(
    features: Float[Tensor, "n c h w"], num_views: int, sigma: float, samples: Float[Tensor, "ns 2"]
) -> BlurredViews:
    """Features of all views, blurred by ``sigma`` pixels."""
    table = as_table(with_gradients(blurred(features, sigma)), num_views)
    b, channels = table.shape[0], features.shape[1]
    views = torch.arange(num_views, device=table.device).expand(b, num_views)
    own = sample_views(table[..., :channels].contiguous(), samples.expand(b, num_views, *samples.shape), views)
    return BlurredViews(table, samples, own)


def photometric_evidence(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange, weight: Float[Tensor, " 1"]
) -> Evidence:
    """The wish of every point to move along the image gradient of its neighbours until the features agree.

    Source: Engel et al. 2018, "Direct Sparse Odometry"; features as in Tang and Tan 2019, "BA-Net".
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
    channels = own.shape[-1]
    values, along_x, along_y = found.unflatten(-1, (3, channels)).unbind(-2)
    difference = own[:, :, None] - values
    with torch.no_grad():
        robust = inside / (1 + difference.square().sum(-1) / DIFFERENCE**2).square()
    robust = weight * robust
    n = bundle.inverse_depth.shape[-1]

    def total(first: Tensor, second: Tensor) -> Tensor:
        per_sample = (robust * (first * second).sum(-1)).to(bundle.translation.dtype)
        return per_sample.unflatten(-1, (n, -1)).sum(-1)

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
        part = replace(at, samples=at.samples[samples], own=at.own[:, :, samples])
        yield part, replace(bundle, inverse_depth=bundle.inverse_depth[:, :, points])


def photometric_cost(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange
) -> Float[Tensor, " b"]:
    """Robust sum of squared differences. A point outside a neighbour costs half of the largest difference."""
    total = bundle.translation.new_zeros(len(bundle.translation))
    for part, few in _parts(at, bundle, matches.neighbours):
        found, own, inside = _differences(part, few, lens, matches, colours)
        squares = (own[:, :, None] - found[..., : own.shape[-1]]).square().sum(-1)
        total = total + torch.where(inside, squares / (squares + DIFFERENCE**2), 0.5).double().sum((1, 2, 3))
    return total


def _differences(
    at: BlurredViews, bundle: Bundle, lens: Lenses, matches: Matches, colours: ColourChange
) -> tuple[Tensor, Tensor, Tensor]:
    """Features and derivatives of the samples in the neighbours, features in their own view, and visibility."""
    b, v, k = matches.neighbours.shape
    n, channels = bundle.inverse_depth.shape[-1], at.own.shape[-1]
    repeats, times = at.samples.shape[0] // n, b // at.table.shape[0]
    samples = at.samples.to(bundle.translation.dtype)
    depths = bundle.inverse_depth.repeat_interleave(repeats, dim=-1)
    places = projected(bundle, lens, samples, depths, matches.neighbours)
    # Several bundles of one scene share the maps of its views.
    wanted = matches.neighbours.reshape(b // times, times * v * k)
    found = sample_views(at.table, places.reshape(b // times, times * v * k, repeats * n, 2), wanted).reshape(
        b, v, k, repeats * n, at.table.shape[-1]
    )
    ones = colours.gain.new_ones(b, v, k, 1, channels - 3)
    gain = torch.cat([colours.gain, ones], dim=-1)
    shift = torch.cat([colours.shift, 0 * ones], dim=-1)
    found = found * gain.repeat(1, 1, 1, 1, found.shape[-1] // channels)
    found = torch.cat([found[..., :channels] + shift, found[..., channels:]], dim=-1)
    size = (at.table.shape[2], at.table.shape[3])
    limit = extent_of(size, places) * (_MARGIN / 2)
    return found, at.own.repeat_interleave(times, dim=0), (places.abs() < limit).all(-1)
