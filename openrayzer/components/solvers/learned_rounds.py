"""A round of ``correspondence_network``: from the misfit of the present cameras to better ones, in one pass."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.components.solvers.gauss_newton import INVERSE_DEPTHS, LOG_FOCALS, shortened
from openrayzer.components.solvers.photometric import BlurredViews, ColourChange, photometric_evidence
from openrayzer.components.solvers.projection import Bundle, Lenses, Projection, adjoint, project
from openrayzer.geometry.rotations import so3_exp
from openrayzer.interfaces import Matches
from openrayzer.layers.zeroed import zeroed
from openrayzer.types import select_views

_FEATURES = 20
_UNIT = 1 / 15
"""Distance in isotropic coordinates that is 1 for the networks; 4 pixels of 64."""
_LONGEST_SHIFT = 0.08
_LONGEST_ZOOM = 0.4
"""Largest change of the logarithm of the focal length in one round."""
_FLAT = 1e-2
"""Information that keeps the photometric displacement of points without texture small."""


class RoundInput(NamedTuple):
    """All that the rounds share.

    Attributes:
        lens: lenses up to the common focal length.
        matches: matches between the views.
        expected: inverse depths from each image alone.
        colours: changes of colour between the views.
        log_focal: logarithm of the focal length before the first round.
        free_focal: whether the focal length is unknown.
    """

    lens: Lenses
    matches: Matches
    expected: Float[Tensor, "b v n"]
    colours: ColourChange
    log_focal: Float[Tensor, " b"]
    free_focal: bool


class LearnedRound(nn.Module):
    """Turns and moves every camera once, then computes every inverse depth in closed form.

    Networks read, for each point in each neighbour, how far the match and the colours are from the projected point.
    They correct the match and weight it. For each pair of views, the corrected matches imply a twist if depths are
    fixed: the solution of 6 equations. A network reads this twist and pooled features and predicts a better one. The
    twist of a view is the mean over all its pairs. Inverse depths balance the matches and the expected depth.

    Networks are shared by all points, pairs and views, and all pooling is symmetric. So the result follows a change of
    the order of the views.

    Args:
        width: number of hidden channels.
        changes_focal: whether the round also changes an unknown focal length.
    """

    def __init__(self, width: int, *, changes_focal: bool) -> None:
        super().__init__()
        self.of_misfit = nn.Sequential(nn.Linear(_FEATURES, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.over_image = nn.ModuleList(
            nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation)
            for channels, dilation in ((3 * width + 3, 1), (width, 1), (width, 2))
        )
        self.of_view = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.joined = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.correction = zeroed(nn.Linear(width, 3))
        self.depth = zeroed(nn.Linear(width, 2))
        self.twist = nn.Sequential(nn.Linear(6 * width + 12, 2 * width), nn.GELU(), zeroed(nn.Linear(2 * width, 6)))
        self.implied = nn.Parameter(torch.full((6,), 0.5))
        self.focal = zeroed(nn.Linear(2 * width + 1, 1)) if changes_focal else None

    def forward(
        self, bundle: Bundle, given: RoundInput, at: BlurredViews, hidden: Float[Tensor, "b v n d"]
    ) -> tuple[Bundle, Float[Tensor, "b v n d"]]:
        """The bundle after the round, and the features of points for the next round.

        Args:
            bundle: present cameras and depths.
            given: the input of all rounds.
            at: the pictures at the blur of the round, sampled at the points.
            hidden: features of points from the round before.
        """
        matches, (v, k) = given.matches, given.matches.neighbours.shape[1:]
        seen = project(bundle, given.lens, matches.points.double(), matches.neighbours)
        misfit = self.of_misfit(_features(bundle, seen, given, at))
        hidden = self._over_image(misfit, bundle, given, hidden)
        mean, share = hidden.mean(2), matches.first.to(hidden.dtype)[..., None]
        share = share / share.sum(1, keepdim=True)
        view = self.of_view(torch.cat([mean, (share * mean).sum(1, keepdim=True).expand_as(mean)], dim=-1))
        there = select_views(torch.cat([view, mean], dim=-1), matches.neighbours.flatten(1)).unflatten(1, (v, k))
        parts = (misfit, hidden[:, :, None], view[:, :, None, None], there[..., None, : view.shape[-1]])
        joined = F.gelu(
            torch.stack([layer(part).expand_as(misfit) for layer, part in zip(self.joined, parts, strict=True)]).sum(0)
        )
        shift, trust = self.correction(joined).split([2, 1], dim=-1)
        places = matches.places + _LONGEST_SHIFT * torch.tanh(shift)
        near = (matches.places - seen.point).square().sum(-1).float() / (4 * _UNIT) ** 2
        weights = matches.weights / (1 + near).square() * torch.exp(2 * trust[..., 0]).clamp(max=20) * seen.in_front

        of_pairs = self._twists(joined, there, torch.cat([view, mean], dim=-1), seen, places, weights.double())
        turned = _moved(bundle, _over_pairs(of_pairs, seen, matches))
        log_focal = bundle.log_focal
        if self.focal is not None and given.free_focal:
            implied = _implied_focal(seen, places, weights)[:, None, None].expand(*view.shape[:2], 1)
            change = torch.tanh((share * self.focal(torch.cat([view, mean, implied], dim=-1))).sum((1, 2)))
            log_focal = (log_focal + _LONGEST_ZOOM * change).clamp(*LOG_FOCALS)
        turned = Bundle(turned.rotation, turned.translation, bundle.inverse_depth, log_focal)
        return self._with_depths(turned, given, places.double(), weights.double(), hidden), hidden

    def _over_image(self, misfit: Tensor, bundle: Bundle, given: RoundInput, hidden: Tensor) -> Tensor:
        """Features of points, from all their matches and from the points around them; a copy has its original's."""
        matches = given.matches
        counted = matches.counted[..., None, None]
        weights = (matches.weights[..., None] + 0.02) * counted
        pooled = (misfit * weights).sum(2) / weights.sum(2).clamp(min=0.01)
        largest = misfit.masked_fill(~counted, -1.0).amax(2)  # GELU is above -1
        depth, expected = bundle.inverse_depth.float().log()[..., None], given.expected.log()[..., None]
        known = torch.cat([pooled, largest, hidden, depth, expected, depth - expected], dim=-1)
        x = known.flatten(0, 1).mT.unflatten(2, matches.grid)
        first, *rest = self.over_image
        x = F.gelu(first(x))
        for layer in rest:
            x = x + F.gelu(layer(x))
        features = x.flatten(2).mT.unflatten(0, misfit.shape[:2])
        return features if matches.originals is None else select_views(features, matches.originals)

    def _twists(
        self, joined: Tensor, there: Tensor, here: Tensor, seen: Projection, places: Tensor, weights: Tensor
    ) -> Float[Tensor, "b v k 6"]:
        """Twist of each pair: the motion of the neighbour relative to the view, in the neighbour's frame."""
        (jx, jy), miss = seen.by_pose, places.double() - seen.point
        matrix = (weights[..., None, :] * jx) @ jx.mT + (weights[..., None, :] * jy) @ jy.mT
        pull = (weights * miss[..., 0])[..., None, :] @ jx.mT + (weights * miss[..., 1])[..., None, :] @ jy.mT
        damping = 0.02 * weights.shape[-1] / 256 * torch.eye(6, dtype=matrix.dtype, device=matrix.device)
        factor = torch.linalg.cholesky_ex(matrix + damping)[0]
        implied = torch.cholesky_solve(pull[..., 0, :, None], factor)[..., 0].float()
        shares = (weights / weights.sum(-1, keepdim=True).clamp(min=1e-3)).float()
        pooled = torch.cat([(joined * shares[..., None]).sum(3), joined.mean(3)], dim=-1)
        moved = seen.relative_translation.float().clamp(-2, 2)
        sure = matrix.diagonal(dim1=-2, dim2=-1)[..., :3].float().add(1e-3).log() / 5
        own = here[:, :, None].expand_as(there)
        known = torch.cat([pooled, own, there, 3 * implied.clamp(-1, 1), moved, sure], dim=-1)
        return (self.implied * implied + 0.1 * self.twist(known)).double()

    def _with_depths(
        self, bundle: Bundle, given: RoundInput, places: Tensor, weights: Tensor, hidden: Tensor
    ) -> Bundle:
        """The bundle with the inverse depths that balance the matches and an expected depth, linearised once."""
        correction, trust = self.depth(hidden).double().unbind(-1)
        expected = (given.expected.log() + 0.7 * torch.tanh(correction)).exp()
        information = 3e-3 * torch.exp((3 * trust).clamp(-4, 6))
        seen = project(bundle, given.lens, given.matches.points.double(), given.matches.neighbours)
        dx, dy = seen.by_depth
        x, y = (places - seen.point).unbind(-1)
        pull = (weights * (x * dx + y * dy)).sum(2) - information * (bundle.inverse_depth - expected)
        depth = bundle.inverse_depth + pull / ((weights * (dx * dx + dy * dy)).sum(2) + information)
        return Bundle(bundle.rotation, bundle.translation, depth.clamp(*INVERSE_DEPTHS), bundle.log_focal)


def _features(
    bundle: Bundle, seen: Projection, given: RoundInput, at: BlurredViews
) -> Float[Tensor, "b v k n features"]:
    """Misfit of each point in each neighbour, and the places and directions in which to read it; float32."""
    matches = given.matches
    miss = (matches.places - seen.point).float() / _UNIT
    size = miss.norm(dim=-1, keepdim=True)
    along = torch.stack(seen.by_depth, dim=-1).float()
    with torch.no_grad():
        one = torch.ones(1, dtype=torch.float64, device=miss.device)
        pixels = photometric_evidence(at, bundle, given.lens, matches, given.colours, one)
        xx, yy = pixels.xx + _FLAT, pixels.yy + _FLAT
        area = xx * yy - pixels.xy.square()
        wish_x = (yy * pixels.pull_x - pixels.xy * pixels.pull_y) / area
        wish_y = (xx * pixels.pull_y - pixels.xy * pixels.pull_x) / area
        wish = torch.stack([wish_x, wish_y], dim=-1).float() / _UNIT
        texture = torch.stack([xx, yy], dim=-1).float().log() / 4
    return torch.cat(
        [
            miss.clamp(-3, 3), miss.clamp(-9, 9) / 6, size.log1p(), (size < 1).float(), matches.weights[..., None],
            matches.points.expand_as(miss), seen.point.float().clamp(-1, 1), seen.in_front[..., None].float(),
            along.clamp(-2, 2), F.normalize(along, dim=-1, eps=1e-2), wish.clamp(-2, 2), texture.clamp(-2, 3),
        ],
        dim=-1,
    )  # fmt: skip


def _implied_focal(seen: Projection, places: Tensor, weights: Tensor) -> Float[Tensor, " b"]:
    """Change of the logarithm of the focal length that the matches imply if poses and depths are fixed; float32."""
    fx, fy = seen.by_focal
    x, y = (places - seen.point).unbind(-1)
    pull = (weights * (x * fx + y * fy)).sum((1, 2, 3))
    information = (weights * (fx * fx + fy * fy)).sum((1, 2, 3))
    return (pull / (information + 1e-2 * weights.sum((1, 2, 3)) + 1e-6)).float().clamp(-1, 1)


def _over_pairs(twists: Float[Tensor, "b v k 6"], seen: Projection, matches: Matches) -> Float[Tensor, "b v 6"]:
    """Twist of each view, the mean over the pairs in which it is the neighbour and those in which it is the view.

    If all views are neighbours of each other and the twists of the pairs are small and consistent, the result has
    exactly these relative motions.
    """
    counted = matches.counted.to(twists.dtype)
    twists = twists * counted[..., None]
    inverse = seen.relative_rotation.mT
    back = adjoint(inverse, -(inverse @ seen.relative_translation[..., None])[..., 0])
    total = -(back @ twists[..., None])[..., 0].sum(2)
    rows = torch.arange(len(twists), device=twists.device)[:, None]
    total = total.index_put((rows, matches.neighbours.flatten(1)), twists.flatten(1, 2), accumulate=True)
    count = counted.sum(2).index_put((rows, matches.neighbours.flatten(1)), counted.flatten(1), accumulate=True)
    num_views = counted.any(2).sum(1)[:, None, None].clamp(min=1)
    return total / count[..., None].clamp(min=1) * (num_views - 1) / num_views


def _moved(bundle: Bundle, twists: Float[Tensor, "b v 6"]) -> Bundle:
    """The bundle after a twist of each camera, at most 0.5 radians and 0.5 units of length."""
    turn, move = (shortened(part, 0.5) for part in twists.split(3, dim=-1))
    rotation = so3_exp(turn)
    translation = (rotation @ bundle.translation[..., None])[..., 0] + move
    return Bundle(rotation @ bundle.rotation, translation, bundle.inverse_depth, bundle.log_focal)
