"""Matcher ``patch_correlation``: correlation of whitened patches and learned features."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.components.matchers.view_graph import first_copies, nearest_views, without_copies
from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import MATCHERS, InputError, Matcher, Matches, SolvedCameras
from openrayzer.layers.image_sampling import bilinear, every_second, extent, image_points, resized, working_size
from openrayzer.types import select_views

_WINDOW = 9
_WINDOW_SIGMA = 2.6
_REACH = 2
"""The softmax of a match covers this many cells on each side of the best cell."""
_DETOUR = 4.0
"""A match counts less if the way back from its place ends this many cells or more from its point."""
_STRETCH = 0.6
"""Neighbouring points disagree if the distance between their places differs by more than this share."""
_POOLED = 4
"""Side of the pooled grid that compares whole views."""


@MATCHERS.register("patch_correlation")
class PatchCorrelation(Matcher):
    """Matches each point to the cell with the most similar feature, and refines it by a softmax over nearby cells.

    The feature of a cell is a learned projection of the 9 x 9 cells around it, less their mean, plus the output of a
    small network; a random orthonormal projection already matches well. A match counts less if the way back from its
    place ends elsewhere, or if its features differ.

    Args:
        cells: the grid of features has about ``cells * cells`` cells, whatever the image size.
        width: length of a feature.
        temperature: temperature of the softmax.
        max_neighbours: largest number of neighbours of a view; the most similar views are chosen.

    Raises:
        InputError: ``cells`` is too small for a window, or there is no neighbour.
    """

    window: Tensor

    def __init__(self, *, cells: int = 32, width: int = 64, temperature: float = 0.05, max_neighbours: int = 8) -> None:
        super().__init__()
        if cells < 2 * _WINDOW or max_neighbours < 1:
            raise InputError(
                f"patch_correlation needs cells >= {2 * _WINDOW} and max_neighbours >= 1, got {cells}, {max_neighbours}"
            )
        self.cells, self.temperature, self.max_neighbours = cells, temperature, max_neighbours
        steps = (torch.arange(_WINDOW) - _WINDOW // 2) / _WINDOW_SIGMA
        window = torch.exp(-steps.square() / 2)
        window = (window[:, None] * window).flatten().repeat(3)
        self.register_buffer("window", window, persistent=False)
        start = torch.linalg.qr(torch.randn(len(window), width))[0] * (len(window) / width) ** 0.5
        self.projection = nn.Parameter(start.contiguous())
        self.network = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.GELU(), nn.Conv2d(32, 48, 3, padding=1), nn.GELU(),
            nn.Conv2d(48, 48, 3, padding=2, dilation=2), nn.GELU(), nn.Conv2d(48, width, 1),
        )  # fmt: skip
        self.mix = nn.Parameter(torch.tensor([0.1]))

    def features(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v d rows cols"]:
        """Features of length 1 on the grid of cells."""
        rows, cols = working_size((images.shape[-2], images.shape[-1]), self.cells, 2)
        small = resized(images.flatten(0, 1), (2 * rows, 2 * cols))
        padded = F.pad(F.avg_pool2d(small, 2), [_WINDOW // 2] * 4, mode="reflect")
        patches = F.unfold(padded, _WINDOW)
        patches = patches - (patches * self.window[:, None]).sum(1, keepdim=True) / self.window.sum()
        correlated = torch.einsum("kd,bkn->bdn", self.projection * self.window.sqrt()[:, None], patches)
        learned = self.network(small - 0.5).flatten(2)
        features = F.normalize(F.normalize(correlated, dim=1) + self.mix * learned, dim=1)
        return features.unflatten(0, images.shape[:2]).unflatten(3, (rows, cols))

    def forward(self, images: Float[Tensor, "b v 3 h w"]) -> Matches:
        with no_autocast(images):
            with torch.no_grad():
                matches = self._matches(images.float())
            if not self.training:
                return matches
            features = self.features(_with_other_colours(images.float()))
            return replace(matches, likelihood=self._likelihood(features, matches))

    def _matches(self, images: Float[Tensor, "b v 3 h w"]) -> Matches:
        features, originals = self.features(images), first_copies(images)
        image_size, (v, _, rows, cols) = (images.shape[-2], images.shape[-1]), features.shape[1:]
        neighbours = nearest_views(without_copies(_similarity(features), originals), self.max_neighbours)
        neighbours = select_views(neighbours, originals)
        k = neighbours.shape[2]
        cells = image_points(image_size, (rows, cols), features.device).flatten(0, 1)
        chosen = every_second((rows, cols), features.device)
        points, pitch = cells[chosen], extent(image_size)[0] / cols
        keys = features.flatten(3).mT.contiguous()
        there = select_views(keys, neighbours.flatten(1)).unflatten(1, (v, k))
        scores = keys[:, :, None, chosen] @ there.mT  # b v k n cells
        best = scores.argmax(-1)
        near, exists = _around(best, (rows, cols))
        found = there.gather(3, best[..., None].expand(*best.shape, keys.shape[-1]))
        back = cells[(found @ keys[:, :, None].mT).argmax(-1)]
        detour = (back - points).norm(dim=-1) / pitch
        of_near = scores.gather(-1, near)
        shares = (of_near / self.temperature).masked_fill(~exists, -1e4).softmax(-1)
        around = cells[near]
        places = (shares[..., None] * around).sum(-2)
        weights = torch.exp(-(detour / _DETOUR).square()) * of_near.amax(-1).clamp(min=0).square()
        weights = weights * _agreement(places - points, weights, (rows // 2, cols // 2), 2 * pitch)
        matches = Matches(points, (rows // 2, cols // 2), neighbours, places, weights, originals=originals)
        return replace(matches, weights=weights * matches.counted[..., None])

    def _likelihood(self, features: Float[Tensor, "b v d rows cols"], matches: Matches) -> Tensor:
        """Logarithm of the probability of each cell of a neighbour, for every fourth point."""
        v, k = matches.neighbours.shape[1:]
        keys = features.flatten(3).mT
        there = select_views(keys, matches.neighbours.flatten(1)).unflatten(1, (v, k))
        chosen = every_second((features.shape[-2], features.shape[-1]), features.device)
        asked = keys[:, :, None, chosen[every_second(matches.grid, features.device)]]
        return (asked @ there.mT / self.temperature).log_softmax(-1)

    def loss(self, matches: Matches, solved: SolvedCameras) -> Float[Tensor, ""]:
        """Cross-entropy of the cells at which the solved cameras see the points; doubtful points count less."""
        if matches.likelihood is None:
            raise InputError("patch_correlation has a loss only in training mode")
        some = every_second(matches.grid, solved.projected.device)
        rows, cols = 2 * matches.grid[0], 2 * matches.grid[1]
        wide, high = extent((rows, cols))
        x = (solved.projected[:, :, :, some, 0].detach() / wide + 0.5) * cols - 0.5
        y = (solved.projected[:, :, :, some, 1].detach() / high + 0.5) * rows - 0.5
        inside = (x > -0.5) & (x < cols - 0.5) & (y > -0.5) & (y < rows - 0.5)
        x, y = x.clamp(0, cols - 1), y.clamp(0, rows - 1)
        cells, shares = bilinear(x, y, (rows, cols), torch.float32)
        wrong = -(matches.likelihood.gather(-1, cells) * shares).sum(-1)
        trusted = inside * solved.agreement[:, :, :, some]
        return (wrong * trusted).sum() / trusted.sum().clamp(min=1)


def _with_other_colours(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
    """Each view with another exposure, white balance and saturation, all random, so that features ignore them."""
    shape = images.shape[:2]
    grey = images.mean(2, keepdim=True)
    saturation = 0.4 + 0.8 * torch.rand(*shape, 1, 1, 1, device=images.device)
    gain = torch.exp(0.2 * torch.randn(*shape, 1, 1, 1, device=images.device))
    balance = torch.exp(0.08 * torch.randn(*shape, 3, 1, 1, device=images.device))
    return (gain * balance * (grey + saturation * (images - grey))).clamp(0, 1)


def _agreement(
    shift: Float[Tensor, "b v k n 2"], weights: Float[Tensor, "b v k n"], grid: tuple[int, int], distance: float
) -> Float[Tensor, "b v k n"]:
    """How many of the neighbours of a point move like the point, in [0, 1]; half of them or more give 1.

    Wrong matches point in random directions, and right matches move with their neighbours.

    Args:
        shift: displacement of each point.
        weights: weights of the matches.
        grid: rows and columns of points.
        distance: distance between points.

    Source: Bian et al. 2017, "GMS: Grid-based Motion Statistics for Fast, Ultra-robust Feature Correspondence".
    """
    rows, cols = grid
    known = torch.cat([shift, weights[..., None], torch.ones_like(weights[..., None])], dim=-1).unflatten(3, grid)
    padded = F.pad(known, (0, 0, 1, 1, 1, 1))
    here, agreeing, count = shift.unflatten(3, grid), torch.zeros_like(weights), torch.zeros_like(weights)
    for y, x in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        there = padded[:, :, :, y : y + rows, x : x + cols]
        stretch = (there[..., :2] - here).norm(dim=-1) / (distance * math.hypot(y - 1, x - 1))
        agreeing = agreeing + (torch.exp(-(stretch / _STRETCH).square()) * there[..., 2]).flatten(3)
        count = count + there[..., 3].flatten(3)
    return (2 * agreeing / count).clamp(max=1)


def _similarity(features: Float[Tensor, "b v d rows cols"]) -> Float[Tensor, "b v v"]:
    """How much of each view occurs in another one, by the features of large cells; symmetric."""
    pooled = F.adaptive_avg_pool2d(features.flatten(0, 1), _POOLED).flatten(2)
    pooled = F.normalize(pooled, dim=1).unflatten(0, features.shape[:2])
    scores = torch.einsum("bidm,bjdn->bijmn", pooled, pooled)
    return scores.amax(-1).mean(-1) + scores.amax(-2).mean(-1)


def _around(best: Int[Tensor, "*batch"], grid: tuple[int, int]) -> tuple[Int[Tensor, "*batch near"], Tensor]:
    """The cells around a cell, and whether they exist."""
    rows, cols = grid
    steps = torch.arange(-_REACH, _REACH + 1, device=best.device)
    y = (best // cols)[..., None] + steps.repeat_interleave(len(steps))
    x = (best % cols)[..., None] + steps.repeat(len(steps))
    exists = (y >= 0) & (y < rows) & (x >= 0) & (x < cols)
    return y.clamp(0, rows - 1) * cols + x.clamp(0, cols - 1), exists
