"""Gauss-Newton steps of bundle adjustment, with the inverse depths eliminated by a Schur complement."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.components.solvers.projection import Bundle, Projection, adjoint
from openrayzer.geometry.rotations import so3_exp

INVERSE_DEPTHS = (0.1, 4.0)
"""Limits of inverse depths; the mean of a scene is near 1."""
LOG_FOCALS = (-1.0, 1.8)
_LONGEST_STEP = {"rotation": 0.5, "translation": 0.5, "log_focal": 0.15}


@dataclass(frozen=True)
class Evidence:
    """A quadratic cost of each projected point: information G and G times the residual.

    The residual is the wanted place minus the projected place.

    Attributes:
        xx, xy, yy: entries of the symmetric matrix G.
        pull_x, pull_y: entries of G times the residual.
    """

    xx: Float[Tensor, "b v k n"]
    xy: Float[Tensor, "b v k n"]
    yy: Float[Tensor, "b v k n"]
    pull_x: Float[Tensor, "b v k n"]
    pull_y: Float[Tensor, "b v k n"]

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(*(getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)))


@dataclass(frozen=True)
class Priors:
    """Gaussian priors of the unknowns. Information is an inverse variance, and a large one holds an unknown.

    Attributes:
        inverse_depth: mean of the inverse depths.
        depth_information: information about each inverse depth.
        log_focal: mean of the logarithm of the focal length.
        focal_information: information about it.
        damping: information about the change of each pose in one step. It also fixes the world frame.
    """

    inverse_depth: Float[Tensor, "b v n"]
    depth_information: Float[Tensor, " b"]
    log_focal: Float[Tensor, " b"]
    focal_information: Float[Tensor, " b"]
    damping: Float[Tensor, "b v"]


@dataclass(frozen=True)
class NormalEquations:
    """Linear equations of one step. The last unknown of ``matrix`` is the logarithm of the focal length.

    Attributes:
        matrix: information about poses (6 v) and focal length after the elimination of the depths.
        pull: right-hand side of the same unknowns.
        tied: the poses that share the depths of each view: its own and those of its k neighbours.
        by_tied: information between these poses and the depths.
        by_focal: information between the focal length and the depths.
        depth: information about the depths.
        pull_depth: right-hand side of the depths.
    """

    matrix: Float[Tensor, "b unknowns unknowns"]
    pull: Float[Tensor, "b unknowns"]
    tied: Int[Tensor, "b v poses"]
    by_tied: Float[Tensor, "b v entries n"]
    by_focal: Float[Tensor, "b v n"]
    depth: Float[Tensor, "b v n"]
    pull_depth: Float[Tensor, "b v n"]


def normal_equations(
    bundle: Bundle, seen: Projection, evidence: Evidence, priors: Priors, neighbours: Int[Tensor, "b v k"]
) -> NormalEquations:
    """The equations of a step for all poses, inverse depths and the focal length.

    Source: Triggs et al. 2000, "Bundle Adjustment: A Modern Synthesis", sections 6.1 and 4.3.
    """
    b, v, k = neighbours.shape
    (jx, jy), (dx, dy), (fx, fy), g = seen.by_pose, seen.by_depth, seen.by_focal, evidence
    kx = g.xx[..., None, :] * jx + g.xy[..., None, :] * jy
    ky = g.xy[..., None, :] * jx + g.yy[..., None, :] * jy
    later = kx @ jx.mT + ky @ jy.mT  # information about the pose of the neighbour
    pull = (jx @ g.pull_x[..., None] + jy @ g.pull_y[..., None])[..., 0]
    focal = (kx @ fx[..., None] + ky @ fy[..., None])[..., 0]
    depths = kx * dx[..., None, :] + ky * dy[..., None, :]
    # A change of the own pose moves the points like the opposite change of the neighbour's pose, seen from there.
    change = -adjoint(seen.relative_rotation, seen.relative_translation).mT
    cross = change @ later
    own = cross @ change.mT
    own_pull, own_focal = ((change @ values[..., None])[..., 0].sum(2) for values in (pull, focal))

    gx, gy = g.xx * dx + g.xy * dy, g.xy * dx + g.yy * dy
    depth = (gx * dx + gy * dy).sum(2) + priors.depth_information[:, None, None]
    pull_depth = (g.pull_x * dx + g.pull_y * dy).sum(2)
    pull_depth = pull_depth + priors.depth_information[:, None, None] * (priors.inverse_depth - bundle.inverse_depth)
    by_focal = (gx * fx + gy * fy).sum(2)
    of_focal = (g.xx * fx * fx + 2 * g.xy * fx * fy + g.yy * fy * fy).sum((1, 2, 3)) + priors.focal_information
    pull_focal = (g.pull_x * fx + g.pull_y * fy).sum((1, 2, 3))
    pull_focal = pull_focal + priors.focal_information * (priors.log_focal - bundle.log_focal)

    views = torch.arange(v, device=neighbours.device).expand(b, v)[..., None]
    tied = torch.cat([views, neighbours], dim=2)
    by_tied = torch.cat([(change @ depths).sum(2)[:, :, None], depths], dim=2).flatten(2, 3)
    shared = by_tied / depth[:, :, None]
    lost = (shared @ by_tied.mT).unflatten(3, (k + 1, 6)).unflatten(2, (k + 1, 6)).transpose(3, 4)
    rows = torch.arange(b, device=neighbours.device)[:, None]
    blocks = later.new_zeros(b, v * v, 6, 6)

    def add(first: Tensor, second: Tensor, values: Tensor) -> None:
        blocks.index_put_((rows, (first * v + second).flatten(1)), values.flatten(1, -3), accumulate=True)

    def over_views(of_own: Tensor, of_neighbours: Tensor, by_depths: Tensor) -> Tensor:
        total = of_own.clone()
        total.index_put_((rows, neighbours.flatten(1)), of_neighbours.flatten(1, 2), accumulate=True)
        eliminated = (shared @ by_depths[..., None]).unflatten(2, (k + 1, 6))[..., 0]
        total.index_put_((rows, tied.flatten(1)), -eliminated.flatten(1, 2), accumulate=True)
        return total.flatten(1)

    add(views[..., 0], views[..., 0], own.sum(2) + torch.diag_embed(priors.damping[..., None].expand(b, v, 6)))
    add(neighbours, neighbours, later)
    add(views.expand(b, v, k), neighbours, cross)
    add(neighbours, views.expand(b, v, k), cross.mT)
    add(tied[..., :, None].expand(*tied.shape, k + 1), tied[..., None, :].expand(b, v, k + 1, k + 1), -lost)
    poses = blocks.unflatten(1, (v, v)).transpose(2, 3).reshape(b, 6 * v, 6 * v)
    pull_poses = over_views(own_pull, pull, pull_depth)
    with_focal = over_views(own_focal, focal, by_focal)
    of_focal = of_focal - (by_focal.square() / depth).sum((1, 2))
    pull_focal = pull_focal - (by_focal * pull_depth / depth).sum((1, 2))
    upper = torch.cat([poses, with_focal[..., None]], dim=2)
    lower = torch.cat([with_focal, of_focal[:, None]], dim=1)[:, None]
    right = torch.cat([pull_poses, pull_focal[:, None]], dim=1)
    return NormalEquations(torch.cat([upper, lower], dim=1), right, tied, by_tied, by_focal, depth, pull_depth)


def step(bundle: Bundle, equations: NormalEquations) -> Bundle:
    """The bundle after the solution of the equations. Steps are short, and depths and focal lengths stay in limits."""
    b, v = bundle.translation.shape[:2]
    # The matrix is positive definite, because damping is positive; cholesky_ex does not wait for a GPU to confirm it.
    factor = torch.linalg.cholesky_ex(equations.matrix)[0]
    solution = torch.cholesky_solve(equations.pull[..., None], factor)[..., 0]
    twists, d_focal = solution[:, :-1].reshape(b, v, 6), solution[:, -1]
    rows = torch.arange(b, device=twists.device)[:, None, None]
    by_poses = equations.by_tied.mT @ twists[rows, equations.tied].flatten(2)[..., None]
    left = equations.pull_depth - by_poses[..., 0] - equations.by_focal * d_focal[:, None, None]
    rotation = so3_exp(shortened(twists[..., :3], _LONGEST_STEP["rotation"]))
    translation = (rotation @ bundle.translation[..., None])[..., 0]
    longest = _LONGEST_STEP["log_focal"]
    return Bundle(
        rotation @ bundle.rotation,
        translation + shortened(twists[..., 3:], _LONGEST_STEP["translation"]),
        (bundle.inverse_depth + left / equations.depth).clamp(*INVERSE_DEPTHS),
        (bundle.log_focal + d_focal.clamp(-longest, longest)).clamp(*LOG_FOCALS),
    )


def shortened(vector: Float[Tensor, "*batch 3"], longest: float) -> Float[Tensor, "*batch 3"]:
    """The vector, shortened to length ``longest`` if it is longer."""
    return vector * (longest / vector.norm(dim=-1, keepdim=True).clamp(min=longest))
