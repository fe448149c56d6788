"""Evidence of matches, and the measures of the final cameras that follow from the matches."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.solvers.gauss_newton import Evidence, Priors, normal_equations
from openrayzer.components.solvers.projection import Bundle, Lenses, Projection, project
from openrayzer.interfaces import Matches

SUPPORTED = 0.2
"""Smallest share of points that must support a camera. A mirrored view reaches 0.17, unrelated views 0.05."""
_AGREES = 0.06
"""Distance in isotropic coordinates from which a match no longer agrees with the cameras; 4 pixels of 64."""
_TRUSTED = 0.1
"""Smallest weight of a match that can support a camera."""
_FREE = 1e-6
"""Information that leaves an unknown free."""


def match_evidence(seen: Projection, matches: Matches, sigma: float, weight: Tensor | float = 1.0) -> Evidence:
    """The pull of projected points to their matches.

    Args:
        seen: the projected points.
        matches: the matches.
        sigma: distances beyond it count less and less (Geman-McClure).
        weight: factor of the information.
    """
    miss = matches.places.to(seen.point.dtype) - seen.point
    with torch.no_grad():
        robust = seen.in_front / (1 + miss.square().sum(-1) / sigma**2).square()
    information = weight * matches.weights.to(miss.dtype) * robust
    nothing = torch.zeros_like(information)
    return Evidence(information, nothing, information, information * miss[..., 0], information * miss[..., 1])


class Certainty(NamedTuple):
    """The fields of the same names of ``SolvedCameras``."""

    projected: Float[Tensor, "b v k n 2"]
    agreement: Float[Tensor, "b v k n"]
    support: Float[Tensor, "b v"]
    residual: Float[Tensor, "b v"]
    rotation_error: Float[Tensor, "b v"]
    position_error: Float[Tensor, "b v"]


@torch.no_grad()
def certainty(bundle: Bundle, lens: Lenses, matches: Matches, priors: Priors) -> Certainty:
    """Agreement of cameras and matches, and the standard deviations of the poses that follow from it."""
    v = bundle.translation.shape[1]
    seen = project(bundle, lens, matches.points.to(bundle.translation.dtype), matches.neighbours)
    squares = (seen.point - matches.places).square().sum(-1)
    agreement = seen.in_front * torch.exp(-squares / _AGREES**2) * matches.counted[..., None]
    agrees = ((agreement > 0.5) & (matches.weights > _TRUSTED)).to(squares.dtype)
    variance = ((squares * agrees).sum((2, 3)) + _AGREES**2) / (agrees.sum((2, 3)) + 1)
    support = (agrees.sum(2) > 0).to(squares.dtype).mean(2)
    evidence = match_evidence(seen, matches, _AGREES)
    free = Priors(
        priors.inverse_depth, priors.depth_information, priors.log_focal,
        torch.full_like(priors.focal_information, _FREE), torch.full_like(priors.damping, _FREE),
    )  # fmt: skip
    matrix = normal_equations(bundle, seen, evidence, free, matches.neighbours).matrix[:, :-1, :-1]
    own = matrix.unflatten(2, (v, 6)).unflatten(1, (v, 6)).diagonal(dim1=1, dim2=3).movedim(-1, 1)
    # Both coordinates of a match share its squared distance, so that half of it is the variance of one coordinate.
    covariance = torch.cholesky_inverse(torch.linalg.cholesky_ex(own)[0]) * (variance / 2)[..., None, None]
    spread = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0, max=1e6)
    rotation_error, position_error = spread[..., :3].sum(-1).sqrt(), spread[..., 3:].sum(-1).sqrt()
    return Certainty(seen.point, agreement, support, variance.sqrt(), rotation_error, position_error)
