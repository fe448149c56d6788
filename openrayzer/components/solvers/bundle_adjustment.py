"""Camera solver ``bundle_adjustment``: cameras, inverse depths and focal length from matches, then from pixels."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openrayzer.components.solvers.depth_prior import DepthPrior
from openrayzer.components.solvers.gauss_newton import Evidence, Priors, gauss_newton_step
from openrayzer.components.solvers.photometric import (
    ColourChange,
    colour_change,
    level,
    photometric_cost,
    photometric_evidence,
)
from openrayzer.components.solvers.projection import Bundle, Lens, project
from openrayzer.components.solvers.starts import NUM_SHAPES, depth_shapes, lowest, picked
from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import CAMERA_SOLVERS, CameraSolver, InputError, Matches, SolvedCameras
from openrayzer.layers.image_sampling import extent, image_points, resized, working_size
from openrayzer.types import Cameras

HELD = 1e9
"""Information of an unknown that keeps its value."""
_MATCH_SIGMAS = (0.3, 0.15, 0.08, 0.05, 0.03)
_SIDE = 64
"""Images are compared at about this side in pixels."""


class Stage(NamedTuple):
    """Photometric steps at one blur.

    Attributes:
        blur: sigma of the Gaussian blur, in pixels of an image of 64 x 64.
        steps: number of Gauss-Newton steps.
    """

    blur: float
    steps: int


@CAMERA_SOLVERS.register("bundle_adjustment")
class BundleAdjustment(CameraSolver):
    """Gauss-Newton over all poses, inverse depths and one focal length, first on matches, then on pixels.

    Args:
        starts: number of shapes of the scene from which the match steps start, 1 to 16.
        survivors: number of starts that also take the coarse photometric steps.
        focal: focal length divided by sqrt(h * w) at the start of training; a network parameter follows the data.
        focal_information: inverse variance of the prior of log focal length; 0 keeps the focal length at the prior.
        features: number of learned channels that are compared besides the colours.
    """

    def __init__(
        self,
        *,
        starts: int = 8,
        survivors: int = 2,
        starts_in_training: int = 3,
        fine_steps: int = 8,
        focal: float = 1.2,
        focal_information: float = 0.1,
        features: int = 8,
    ) -> None:
        super().__init__()
        self.starts, self.survivors, self.starts_in_training = starts, survivors, starts_in_training
        self.focal_information, self.fine_steps = focal_information, fine_steps
        self.depth_prior = DepthPrior()
        self.feature = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 16, 3, padding=1), nn.GELU(),
            nn.Conv2d(16, features, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.feature[-1].weight)
        nn.init.zeros_(self.feature[-1].bias)
        self.log_photometric = nn.Parameter(torch.full((4,), math.log(0.1)))
        self.log_match = nn.Parameter(torch.tensor([math.log(0.01)]))
        self.log_depth_information = nn.Parameter(torch.tensor([math.log(3e-4)]))
        self.log_focal = nn.Parameter(torch.tensor([math.log(focal)]))
        self.damping = 1e-3

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        *,
        known: Cameras | None = None,
        held: Bool[Tensor, "b v"] | None = None,
    ) -> SolvedCameras:
        with no_autocast(images):
            return self._solve(images.float(), matches, known, held)

    def _solve(self, images: Tensor, matches: Matches, known: Cameras | None, held: Tensor | None) -> SolvedCameras:
        image_size = (images.shape[-2], images.shape[-1])
        b, v = images.shape[:2]
        small = resized(images.flatten(0, 1), working_size(image_size, _SIDE, 4))
        prior_depth = self.depth_prior(small.unflatten(0, (b, v)), matches.grid)
        lens, log_focal, focal_information = self._lens(image_size, known, b, v, images.device)
        held = torch.zeros(b, v, dtype=torch.bool, device=images.device) if held is None else held
        priors = Priors(
            prior_depth.double(), self.log_depth_information[0].exp().double(), log_focal,
            torch.full_like(log_focal, HELD), torch.where(held, HELD, self.damping).double(),
        )  # fmt: skip
        bundle = _first_bundle(priors, known, held, matches)
        with torch.no_grad():
            colours = colour_change(small, matches, 1.5)
            bundle = self._from_starts(small, bundle, lens, matches, priors, colours)
        features = torch.cat([small, self.feature(small - 0.5)], dim=1)
        bundle = self._photometric(features, bundle, lens, matches, priors, colours, focal_information)
        return self._result(bundle, lens, matches, priors, image_size, known)
    def loss(self, solved: SolvedCameras) -> Float[Tensor, ""]:
        """How far the priors of depth and focal length are from the values that the solver found."""
        found = solved.inverse_depth.clamp(0.15, 3.9)
        found = (found / found.mean(dim=(1, 2), keepdim=True)).log()
        sure = solved.point_support
        depth = ((solved.prior_depth.log() - found).abs() * sure).sum() / sure.sum().clamp(min=1)
        focal = (self.log_focal - solved.log_focal).abs().mean()
        return (depth + focal).float()

    def _from_starts(
        self, small: Tensor, bundle: Bundle, lens: Lens, matches: Matches, priors: Priors, colours: ColourChange
    ) -> Bundle:
        """The best bundle after match steps on a quarter of the points from several starts, then on all points."""
        count = self.starts_in_training if self.training else self.starts
        v = matches.neighbours.shape[1]
        some = torch.arange(len(matches.points), device=small.device).reshape(matches.grid)[1::2, 1::2].flatten()
        grid = (matches.grid[0] // 2, matches.grid[1] // 2)
        few = replace(
            matches, points=matches.points[some], grid=grid,
            places=matches.places[:, :, :, some], weights=matches.weights[:, :, :, some], likelihood=None,
        )  # fmt: skip
        shapes = depth_shapes(few.points.double(), count)
        def spread(tensor):  # each scene, once for each start
            return tensor.repeat_interleave(count, dim=0)
        few = replace(few, neighbours=spread(few.neighbours), places=spread(few.places), weights=spread(few.weights))
        prior = priors.inverse_depth[:, :, some]
        start = (prior[:, None] * shapes[:, None]).flatten(0, 1)
        start = (start / start.mean(dim=(1, 2), keepdim=True)).clamp(0.1,4.)
        guess = Priors(spread(prior), priors.depth_information, spread(priors.log_focal), spread(priors.focal_information), spread(priors.damping))
        tried = Bundle(spread(bundle.rotation), spread(bundle.translation), start, spread(bundle.log_focal))
        lenses = Lens(spread(lens.focal), spread(lens.centre))
        for sigma in _MATCH_SIGMAS:
            tried = self._match_step(tried, lenses, few, guess, sigma)
        maps = level(small, v, 0.8, few.points)
        cost = photometric_cost(maps, tried, lenses, few, ColourChange(spread(colours.gain), spread(colours.shift)))
        best = lowest(cost.unflatten(0, (-1, count)), 1 if self.training else min(self.survivors,count))
        keep=best.shape[1]
        tried = picked(tried, best, count)
        depth = F.interpolate(tried.inverse_depth.unflatten(2, grid), matches.grid, mode="bilinear").flatten(2)
        tried = replace(tried, inverse_depth=depth)
        self.keep = keep
        return tried

    def _match_step(self, bundle: Bundle, lens: Lens, matches: Matches, priors: Priors, sigma: float) -> Bundle:
        seen = project(bundle, lens, matches.points.double(), bundle.inverse_depth, matches.neighbours)
        return gauss_newton_step(bundle, seen, _match_evidence(seen, matches, sigma), priors, matches.neighbours)

    def _photometric(self, features, bundle, lens, matches, priors, colours, focal_information) -> Bundle:
        v = matches.neighbours.shape[1]
        samples = _samples(matches, (features.shape[-2], features.shape[-1]))
        keep = self.keep
        def spread(value): 
            from openrayzer.types import map_tensors
            return map_tensors(value, lambda t: t.repeat_interleave(keep, dim=0) if t.dim() else t)
        plain = replace(matches, likelihood=None)
        many = replace(plain, neighbours=spread(plain.neighbours), places=spread(plain.places), weights=spread(plain.weights))
        mp, ml, mc = spread(priors), spread(lens), spread(colours)
        with torch.no_grad():
            for sigma in (0.05,0.03):
                bundle = self._match_step(bundle, ml, many, mp, sigma)
            for number,(blur, steps) in enumerate(((3.0, 2), (1.5, 2))):
                at = level(features, v, blur, samples)
                for _ in range(steps):
                    bundle = self._step(bundle, ml, many, mp, mc, at, number)
            if keep > 1:
                at = level(features, v, 0.8, samples)
                cost = photometric_cost(at, bundle, ml, many, mc)
                bundle = picked(bundle, lowest(cost.unflatten(0, (-1, keep)), 1), keep)
            free = replace(priors, focal_information=focal_information)
            stages = [(2, 0.8, 2)] if self.training else [(2, 0.8, 3), (3, 0.5, self.fine_steps)]
            for number, blur, steps in stages:
                at = level(features, v, blur, samples)
                for _ in range(steps - (blur == stages[-1][1])):
                    bundle = self._step(bundle, lens, plain, free, colours, at, number)
        at = level(features, v, stages[-1][1], samples)
        return self._step(bundle, lens, matches, free, colours, at, stages[-1][0])

    def _step(self, bundle, lens, matches, priors, colours, at, number):
        seen = project(bundle, lens, matches.points.double(), bundle.inverse_depth, matches.neighbours)
        evidence = photometric_evidence(at, bundle, lens, matches, colours, self.log_photometric[number].exp())
        evidence = evidence + _match_evidence(seen, matches, _MATCH_SIGMAS[-1], self.log_match.exp())
        return gauss_newton_step(bundle, seen, evidence, priors, matches.neighbours)

    def _lens(self, image_size, known, b, v, device):
        if known is None:
            ones = torch.ones(b, v, 2, dtype=torch.float64, device=device)
            logf = self.log_focal.double().expand(b)
            info = torch.full((b,), self.focal_information or HELD, dtype=torch.float64, device=device)
            return Lens(ones, 0 * ones), logf, info
        wide, high = extent(image_size)
        scale = torch.tensor([wide, high], dtype=torch.float64, device=device)
        k = known.intrinsics.double()
        return Lens(k[..., :2] * scale, (k[..., 2:] - 0.5) * scale), torch.zeros(b, dtype=torch.float64, device=device), torch.full((b,), HELD, dtype=torch.float64, device=device)

    def _result(self, bundle, lens, matches, priors, image_size, known) -> SolvedCameras:
        wide, high = extent(image_size)
        scale = torch.tensor([wide, high], dtype=torch.float64, device=bundle.translation.device)
        intrinsics = torch.cat([lens.focal * bundle.log_focal.exp()[:, None, None] / scale, lens.centre / scale + 0.5], dim=-1)
        inverse = bundle.rotation.mT
        c2w = torch.cat([inverse, -(inverse @ bundle.translation[..., None])], dim=-1)
        last = c2w.new_tensor([0.0, 0, 0, 1]).expand(*c2w.shape[:2], 1, 4)
        cameras = Cameras(torch.cat([c2w, last], dim=2).float(), intrinsics.float())
        if known is not None: cameras = replace(cameras, intrinsics=known.intrinsics.float())
        with torch.no_grad():
            seen = project(bundle, lens, matches.points.double(), bundle.inverse_depth, matches.neighbours, derivatives=False)
            miss = (seen.point - matches.places).norm(dim=-1)
            good = (miss < 0.05) & (matches.weights > 0.1)
            support = good.any(2).double().mean(2)
            trust = (1 / (1 + miss.square() / 0.05**2)).square() * 0 + torch.exp(-(miss / 0.06).square())
            residual = ((miss.square() * good).sum((2, 3)) / good.sum((2, 3)).clamp(min=1)).sqrt()
        return SolvedCameras(cameras, bundle.inverse_depth.detach(), priors.inverse_depth, seen.point, support, residual, residual, support > 0.05, trust.float(), trust.amax(2), bundle.log_focal.detach())


def _match_evidence(seen, matches: Matches, sigma: float, weight: Tensor | float = 1.0) -> Evidence:
    """Robust pull of the projected points to their matches."""
    miss = matches.places.double() - seen.point
    with torch.no_grad():
        robust = seen.in_front / (1 + miss.square().sum(-1) / sigma**2).square()
    information = weight * matches.weights.double() * robust
    return Evidence(information, torch.zeros_like(information), information, information * miss[..., 0], information * miss[..., 1])


def _samples(matches: Matches, image_size: tuple[int, int]) -> Float[Tensor, "ns 2"]:
    """Four samples around each point, a quarter of the distance between points away from it."""
    wide, high = extent(image_size)
    quarter = torch.tensor([wide / matches.grid[1], high / matches.grid[0]], dtype=torch.float64) / 4
    signs = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]], dtype=torch.float64)
    return (matches.points.double()[:, None] + (signs * quarter).to(matches.points.device)).flatten(0, 1)


def _first_bundle(priors: Priors, known: Cameras | None, held: Tensor, matches: Matches) -> Bundle:
    b, v = held.shape
    rotation = torch.eye(3, dtype=torch.float64, device=held.device).expand(b, v, 3, 3)
    translation = torch.zeros(b, v, 3, dtype=torch.float64, device=held.device)
    if known is not None:
        inverse = known.c2w[..., :3, :3].double().mT
        w = held[..., None]
        rot = inverse; tra = -(inverse @ known.c2w[..., :3, 3:].double())[..., 0]
        strength = torch.zeros(b, v, v, dtype=torch.float64, device=held.device).scatter_(2, matches.neighbours, matches.weights.double().sum(-1))
        strength = strength.masked_fill(~held[:, None], -1)
        near = strength.argmax(2)
        rows = torch.arange(b, device=held.device)[:, None]
        any_held = held.any(1)[:, None]
        src = torch.where(held, torch.arange(v, device=held.device).expand(b, v), near)
        rotation = torch.where((any_held)[..., None, None], rot[rows, src], rotation)
        translation = torch.where((any_held)[..., None], tra[rows, src], translation)
    return Bundle(rotation, translation, priors.inverse_depth.detach(), priors.log_focal.detach())
