"""A bundle that starts from the cameras of another model, whose unit of length may be another one."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.solvers.projection import Bundle, Lenses, project
from openrayzer.interfaces import Matches
from openrayzer.layers.image_sampling import extent_of
from openrayzer.types import Cameras

_SHORTEST, _LONGEST = 0.01, 3.0
"""Limits of the root mean square distance of the cameras from their middle, in the unit of the solver."""


def rough_bundle(
    cameras: Cameras,
    expected: Float[Tensor, "b v n"],
    lens: Lenses,
    matches: Matches,
    *,
    image_size: tuple[int, int],
    known_lens: bool,
) -> Bundle:
    """Given cameras and expected inverse depths. Positions are scaled so that the depths explain the matches, and the
    middle of the cameras becomes the origin.

    Near inverse depth 0, a point moves in proportion to its inverse depth and to the positions. So the scale is a
    least squares fit of one number to the matches.

    Args:
        cameras: the cameras.
        expected: inverse depths whose mean over a scene is 1.
        lens: lenses, up to a common focal length that ``cameras`` give.
        matches: matches between the views.
        image_size: height and width in pixels.
        known_lens: whether ``lens`` includes the focal lengths.
    """
    c2w = cameras.c2w.detach().double()
    middle = c2w[..., :3, 3].mean(dim=1, keepdim=True)
    rotation = c2w[..., :3, :3].mT
    centres = c2w[..., :3, 3] - middle
    focal = cameras.intrinsics[..., :2].detach().double()
    log_focal = (focal * extent_of(image_size, focal)).log().mean(dim=(1, 2))
    translation = -(rotation @ centres[..., None])[..., 0]
    far = Bundle(rotation, translation, 0 * expected.double(), 0 * log_focal if known_lens else log_focal)
    seen = project(far, lens, matches.points.double(), matches.neighbours)
    moved = torch.stack(seen.by_depth, dim=-1) * expected[:, :, None, :, None]
    information = (matches.weights * seen.in_front)[..., None]
    pull = (information * moved * (matches.places - seen.point)).sum(dim=(1, 2, 3, 4))
    scale = pull / (information * moved.square()).sum(dim=(1, 2, 3, 4)).clamp(min=1e-12)
    spread = centres.square().sum(-1).mean(1).sqrt().clamp(min=1e-9)
    scale = torch.minimum(torch.maximum(scale, _SHORTEST / spread), _LONGEST / spread)
    return replace(far, translation=scale[:, None, None] * translation, inverse_depth=expected.double())
