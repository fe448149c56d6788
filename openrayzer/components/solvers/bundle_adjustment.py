"""Camera solver ``bundle_adjustment``: cameras, inverse depths and a focal length, from matches, then from pixels."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openrayzer.components.solvers.depth_prior import DepthPrior
from openrayzer.components.solvers.gauss_newton import Priors, normal_equations, step
from openrayzer.components.solvers.lenses import bundle_of, cameras_of, first_bundle, lens_of, with_poses_of
from openrayzer.components.solvers.photometric import (
    BlurredViews,
    ColourChange,
    colour_change,
    improved_colours,
    level,
    photometric_cost,
    photometric_evidence,
)
from openrayzer.components.solvers.projection import Bundle, Lenses, project
from openrayzer.components.solvers.reprojection import SUPPORTED, certainty, match_evidence
from openrayzer.components.solvers.rough_cameras import rough_bundle
from openrayzer.components.solvers.starts import NUM_SHAPES, depth_shapes, lowest, repeated
from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import CAMERA_SOLVERS, CameraSolver, InputError, Matches, SolvedCameras
from openrayzer.layers.image_sampling import every_second, image_points, resized, working_size
from openrayzer.layers.tf32 import exact_float32
from openrayzer.types import Cameras

_HELD = 1e9
"""Information of an unknown that keeps its value."""
_DAMPING = 1e-3
_SIDE = 64
"""Images are compared at about this side in pixels. Blurs are in pixels of an image of 64 x 64."""
_MATCH_SIGMAS = (0.3, 0.15, 0.08, 0.05, 0.03)
_COARSE = ((3.0, 2, 1), (1.5, 2, 1), (0.8, 3, 2))
"""Photometric steps with the expected focal length: blur, number of steps, samples of a point along each axis."""
_SELECTION_BLUR = 0.8
_FINE_SAMPLES = 4
_FINE = ((0.5, 2, 2), (0.5, _FINE_SAMPLES, 1), (0.5, _FINE_SAMPLES, 1))
"""Parts of the fine steps: blur, samples of a point along each axis, number of results that are left afterwards."""
_TRAINING_FINE = ((0.8, 2, 1), (0.8, _FINE_SAMPLES, 1))
"""The same in training; each part is one step."""
_TRAINING_FINE_STEPS = 2
_TRAINING_STARTS, _TRAINING_FOCALS = 4, 3
_FEW_VIEWS = 9
"""With more views, the number of shapes falls as the number of views grows, so that the time stays in proportion."""
_FOCAL_RATIO = 1.4
"""Ratio of neighbouring focal lengths among the starts."""
_SURVIVORS = 3
"""Number of shapes that take the coarse photometric steps if there is only one focal length."""


class _Problem(NamedTuple):
    """All that the steps of one scene share; see the classes of the fields."""

    lens: Lenses
    matches: Matches
    priors: Priors
    colours: ColourChange

    def repeated(self, times: int) -> "_Problem":
        """The same problem for several bundles of each scene."""
        matches = self.matches
        names = ("neighbours", "places", "weights", "originals")
        matches = replace(matches, **{name: repeated(getattr(matches, name), times) for name in names})
        lens, priors, colours = repeated((self.lens, self.priors, self.colours), times)
        return _Problem(lens, matches, priors, colours)


@CAMERA_SOLVERS.register("bundle_adjustment")
class BundleAdjustment(CameraSolver):
    """Gauss-Newton over all poses, all inverse depths and one focal length per scene, in float64.

    1. Steps on the matches of a quarter of the points, from several shapes of the scene, for each of several focal
       lengths. The pixels choose the best shape of each.
    2. Photometric steps: each point moves along the image gradients of the other views, from coarse to fine. They
       refine the cameras below the precision of the matches.
    3. In the last steps, the focal length is free, and each point compares all pixels around it. The pixels choose
       the best of the results that are left.

    No view is special: damping instead of a reference view fixes the world frame. The mean of the inverse
    depths fixes the unit of length. Only the last step has gradients; at the minimum they are those of the minimum.

    A network expects an inverse depth from each image alone. ``loss`` teaches this network and the prior of the focal
    length the results of the solver.

    Args:
        starts: number of shapes of a scene for each focal length, 1 to 16; training takes 4 of them at most. With v > 9
            views, both numbers are multiplied by 9 / v, down to 2.
        focal_starts: number of focal lengths from which the solver starts, each 1.4 times the one before; training
            takes 3 of them at most.
        fine_steps: number of the last photometric steps in evaluation.
        focal: focal length divided by sqrt(h * w) pixels, the prior before training.
        focal_information: information of the prior about the logarithm of the focal length; 0 keeps the prior.

    Raises:
        InputError: a number is out of range.

    Source: Triggs et al. 2000, "Bundle Adjustment: A Modern Synthesis"; Engel et al. 2018, "Direct Sparse Odometry";
    Tang and Tan 2019, "BA-Net: Dense Bundle Adjustment Network".
    """

    def __init__(
        self,
        *,
        starts: int = 8,
        focal_starts: int = 5,
        fine_steps: int = 12,
        focal: float = 1.2,
        focal_information: float = 0.1,
    ) -> None:
        super().__init__()
        if not 1 <= starts <= NUM_SHAPES:
            raise InputError(f"starts must be 1 to {NUM_SHAPES}, got {starts}")
        if focal_starts < 1 or fine_steps < 1 or focal <= 0 or focal_information < 0:
            raise InputError(
                "bundle_adjustment needs focal_starts and fine_steps >= 1, focal_information >= 0, and focal > 0; "
                f"got {focal_starts}, {fine_steps}, {focal_information}, {focal}"
            )
        self.starts, self.focal_starts, self.fine_steps = starts, focal_starts, fine_steps
        self.focal_information = focal_information
        self.depth_prior = DepthPrior()
        self.log_focal = nn.Parameter(torch.tensor([math.log(focal)]))
        # Information of one photometric sample, of a match in photometric steps, and of an expected depth.
        self.log_photometric = nn.Parameter(torch.tensor([math.log(0.1)]))
        self.log_match = nn.Parameter(torch.tensor([math.log(0.01)]))
        self.log_depth = nn.Parameter(torch.tensor([math.log(3e-4)]))

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        *,
        known: Cameras | None = None,
        held: Bool[Tensor, "b v"] | None = None,
    ) -> SolvedCameras:
        with no_autocast(images), exact_float32():
            held = torch.zeros(images.shape[:2], dtype=torch.bool, device=images.device) if held is None else held
            small, problem = self._problem(images, matches, known, held)
            bundle = self._solve(
                small,
                problem,
                first_bundle(problem.priors, problem.matches, known, held),
                fixed_focal=known is not None,
            )
            return _solved(bundle, problem, images, known, held)

    @torch.no_grad()
    def depths_of(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        cameras: Cameras,
        *,
        known: Cameras | None = None,
    ) -> SolvedCameras:
        with no_autocast(images), exact_float32():
            all_held = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
            _, problem = self._problem(images, matches, known, all_held)
            bundle = rough_bundle(
                cameras, problem.priors.inverse_depth, problem.lens, matches,
                image_size=(images.shape[-2], images.shape[-1]), known_lens=known is not None,
            )  # fmt: skip
            problem = problem._replace(priors=replace(problem.priors, log_focal=bundle.log_focal))
            for sigma in _MATCH_SIGMAS[-3:]:
                bundle = _match_step(bundle, problem, sigma)
            return _solved(bundle, problem, images, known, all_held)

    def refine(
        self,
        images: Float[Tensor, "b v 3 h w"],
        matches: Matches,
        solved: SolvedCameras,
        *,
        steps: int,
        known: Cameras | None = None,
        held: Bool[Tensor, "b v"] | None = None,
    ) -> SolvedCameras:
        """Photometric steps from other cameras, half of them at each of the two finest blurs."""
        with no_autocast(images), exact_float32():
            held = torch.zeros(images.shape[:2], dtype=torch.bool, device=images.device) if held is None else held
            small, problem = self._problem(images, matches, known, held)
            problem = self._fine(problem, known is not None)
            bundle, samples = bundle_of(solved), _samples(matches, _FINE_SAMPLES)
            for blur, number in ((0.8, steps - steps // 2), (0.5, steps // 2)):
                if number:
                    at = level(small, images.shape[1], blur, samples)
                    bundle = self._photometric(bundle, _recoloured(problem, at, bundle), at, number)
            return _solved(bundle, problem, images, known, held)

    def loss(self, solved: SolvedCameras) -> Float[Tensor, ""]:
        """Mean error of the logarithms of the expected inverse depths and of the focal length's prior."""
        found = solved.inverse_depth / solved.inverse_depth.mean(dim=(1, 2), keepdim=True)
        wrong = (solved.expected_depth.log() - found.log().float()).abs()
        sure = solved.point_agreement
        depth = (wrong * sure).sum() / sure.sum().clamp(min=1)
        return depth + (self.log_focal - solved.log_focal.float()).abs().mean()

    def _problem(
        self, images: Tensor, matches: Matches, known: Cameras | None, held: Tensor
    ) -> tuple[Float[Tensor, "n 3 rows cols"], _Problem]:
        """The images at the size of comparison, and the problem with a fixed focal length."""
        image_size, views = (images.shape[-2], images.shape[-1]), (images.shape[0], images.shape[1])
        small = resized(images.float().flatten(0, 1), working_size(image_size, _SIDE, 4))
        expected = self.depth_prior(small.unflatten(0, views), matches.grid)
        lens, log_focal = lens_of(image_size, known, self.log_focal, views)
        priors = Priors(
            expected.double(), self.log_depth.exp().double().expand(len(images)), log_focal,
            torch.full_like(log_focal, _HELD), torch.where(held, _HELD, _DAMPING).double(),
        )  # fmt: skip
        with torch.no_grad():
            colours = colour_change(small, matches, 1.5)
        return small, _Problem(lens, replace(matches, likelihood=None), priors, colours)

    def _fine(self, problem: _Problem, fixed_focal: bool) -> _Problem:
        """The problem of the last steps, in which the focal length is free."""
        free = self.focal_information if self.focal_information and not fixed_focal else _HELD
        information = torch.full_like(problem.priors.focal_information, free)
        return problem._replace(priors=replace(problem.priors, focal_information=information))

    def _solve(self, small: Tensor, problem: _Problem, bundle: Bundle, *, fixed_focal: bool) -> Bundle:
        views, matches = bundle.translation.shape[1], problem.matches
        focals = min(_TRAINING_FOCALS, self.focal_starts) if self.training else self.focal_starts
        focals = 1 if fixed_focal else focals
        starts = min(_TRAINING_STARTS, self.starts) if self.training else self.starts
        if views > _FEW_VIEWS:
            starts = min(starts, max(2, starts * _FEW_VIEWS // views))
        kept = 1 if self.training or focals > 1 else min(_SURVIVORS, starts)
        with torch.no_grad():
            bundle, many = _with_focal_lengths(bundle, problem, focals)
            bundle, many = self._from_starts(small, many, bundle, starts, kept), many.repeated(kept)
            for sigma in _MATCH_SIGMAS[-2:]:
                bundle = _match_step(bundle, many, sigma)
            for blur, steps, side in _COARSE[:2] if self.training else _COARSE:
                at = level(small, views, blur, _samples(matches, side))
                bundle = self._photometric(bundle, _recoloured(many, at, bundle), at, steps)
        return self._finest(small, self._fine(problem, fixed_focal), bundle, focals * kept)

    def _finest(self, small: Tensor, problem: _Problem, bundle: Bundle, count: int) -> Bundle:
        """The best of ``count`` bundles of each scene after the fine steps."""
        parts, steps = (_TRAINING_FINE, _TRAINING_FINE_STEPS) if self.training else (_FINE, self.fine_steps)
        with torch.no_grad():
            for part, (blur, side, keep) in enumerate(parts):
                at = level(small, bundle.translation.shape[1], blur, _samples(problem.matches, side))
                taken = (steps - 2 + len(parts) - part) // len(parts)
                if not taken and keep == count:  # the last step has its own changes of colours
                    continue
                many = _recoloured(problem.repeated(count), at, bundle)
                bundle = self._photometric(bundle, many, at, taken)
                if keep < count:
                    costs = photometric_cost(at, bundle, many.lens, many.matches, many.colours)
                    bundle, count = lowest(bundle, costs.unflatten(0, (-1, count)), keep), keep
            last = _recoloured(problem, at, bundle)
        return self._photometric(bundle, last, at, 1)

    def _from_starts(self, small: Tensor, problem: _Problem, bundle: Bundle, starts: int, kept: int) -> Bundle:
        """The best bundles after match steps on a quarter of the points from several shapes of the scene."""
        matches, grid = problem.matches, problem.matches.grid
        few_grid, some = (grid[0] // 2, grid[1] // 2), every_second(grid, small.device)
        few = replace(
            matches, points=matches.points[some], grid=few_grid,
            places=matches.places[:, :, :, some], weights=matches.weights[:, :, :, some],
        )  # fmt: skip
        priors = replace(problem.priors, inverse_depth=problem.priors.inverse_depth[:, :, some])
        many = problem._replace(matches=few, priors=priors).repeated(starts)
        shapes = depth_shapes(few.points.double(), starts).repeat(len(bundle.translation), 1)[:, None]
        depths = many.priors.inverse_depth * shapes
        bundle = replace(repeated(bundle, starts), inverse_depth=depths / depths.mean(dim=(1, 2), keepdim=True))
        for sigma in _MATCH_SIGMAS:
            bundle = _match_step(bundle, many, sigma)
        at = level(small, bundle.translation.shape[1], _SELECTION_BLUR, few.points)
        costs = photometric_cost(at, bundle, many.lens, many.matches, many.colours)
        bundle = lowest(bundle, costs.unflatten(0, (-1, starts)), kept)
        finer = F.interpolate(bundle.inverse_depth.unflatten(2, few_grid), grid, mode="bilinear", align_corners=False)
        return replace(bundle, inverse_depth=finer.flatten(2))

    def _photometric(self, bundle: Bundle, problem: _Problem, at: BlurredViews, steps: int) -> Bundle:
        matches, priors = problem.matches, problem.priors
        for _ in range(steps):
            seen = project(bundle, problem.lens, matches.points.double(), matches.neighbours)
            weight = self.log_photometric.exp()
            evidence = photometric_evidence(at, bundle, problem.lens, matches, problem.colours, weight)
            evidence = evidence + match_evidence(seen, matches, _MATCH_SIGMAS[-1], self.log_match.exp().double())
            bundle = step(bundle, normal_equations(bundle, seen, evidence, priors, matches.neighbours))
        return bundle


def _with_focal_lengths(bundle: Bundle, problem: _Problem, count: int) -> tuple[Bundle, _Problem]:
    """The same problem with ``count`` expected focal lengths."""
    bundle, problem = repeated(bundle, count), problem.repeated(count)
    steps = torch.arange(count, dtype=torch.float64, device=bundle.log_focal.device) - (count - 1) / 2
    shift = (steps * math.log(_FOCAL_RATIO)).repeat(len(bundle.log_focal) // count)
    priors = replace(problem.priors, log_focal=problem.priors.log_focal + shift)
    return replace(bundle, log_focal=bundle.log_focal + shift), problem._replace(priors=priors)


def _recoloured(problem: _Problem, at: BlurredViews, bundle: Bundle) -> _Problem:
    """The problem with changes of colours between the points of a bundle and their projections."""
    colours = improved_colours(at, bundle, problem.lens, problem.matches, problem.colours)
    return problem._replace(colours=colours)


def _match_step(bundle: Bundle, problem: _Problem, sigma: float) -> Bundle:
    matches = problem.matches
    seen = project(bundle, problem.lens, matches.points.double(), matches.neighbours)
    evidence = match_evidence(seen, matches, sigma)
    return step(bundle, normal_equations(bundle, seen, evidence, problem.priors, matches.neighbours))


def _samples(matches: Matches, side: int) -> Float[Tensor, "samples 2"]:
    """``side * side`` samples around each point, which divide its part of the image evenly."""
    points, (rows, cols) = matches.points.double(), matches.grid
    offsets = image_points(matches.grid, (side, side), points.device, points.dtype).flatten(0, 1)
    return torch.stack(
        [points[:, None, 0] + offsets[:, 0] / cols, points[:, None, 1] + offsets[:, 1] / rows], dim=-1
    ).flatten(0, 1)


def _solved(
    bundle: Bundle, problem: _Problem, images: Tensor, known: Cameras | None, held: Bool[Tensor, "b v"]
) -> SolvedCameras:
    """The result. An unsupported view takes the pose of the supported view that it resembles most."""
    sure = certainty(bundle, problem.lens, problem.matches, problem.priors)
    supported = sure.support > SUPPORTED
    first = first_bundle(problem.priors, problem.matches, known, held)
    bundle = with_poses_of(bundle, supported | held, problem.matches, instead=first)
    log_focal = torch.where(supported.any(1), bundle.log_focal, first.log_focal)
    bundle = replace(bundle, log_focal=log_focal)
    cameras = cameras_of(bundle, problem.lens, (images.shape[-2], images.shape[-1]), known)
    solved = SolvedCameras(
        cameras, bundle.log_focal.detach(), bundle.inverse_depth.detach(), problem.priors.inverse_depth.float(),
        **{name: value.float() for name, value in sure._asdict().items()}, supported=supported,
    )  # fmt: skip
    return solved.with_copies(problem.matches.originals)
