"""One Gauss-Newton step of bundle adjustment, with the inverse depths eliminated by a Schur complement."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.components.solvers.projection import Bundle, Projection, adjoint
from openrayzer.geometry.rotations import so3_exp

LARGEST_ROTATION, LARGEST_TRANSLATION, LARGEST_FOCAL = 0.5, 0.5, 0.15
"""Limits of one step: radians, units of the scene, logarithm of the focal length."""
INVERSE_DEPTHS = (0.1, 4.0)
LOG_FOCALS = (-1.0, 1.5)


@dataclass(frozen=True)
class Evidence:
    """Information about the projected points: a quadratic cost (p - p0)^T G (p - p0) / 2 of each.

    Attributes:
        xx, xy, yy: entries of G.
        pull_x, pull_y: G times the residual, which is the wanted place of the point minus its projection.
    """

    xx: Float[Tensor, "b v k n"]
    xy: Float[Tensor, "b v k n"]
    yy: Float[Tensor, "b v k n"]
    pull_x: Float[Tensor, "b v k n"]
    pull_y: Float[Tensor, "b v k n"]

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.xx + other.xx, self.xy + other.xy, self.yy + other.yy,
            self.pull_x + other.pull_x, self.pull_y + other.pull_y,
        )


@dataclass(frozen=True)
class Priors:
    """Gaussian priors of the unknowns.

    Attributes:
        inverse_depth: mean of the inverse depths.
        depth_information: inverse variance of the inverse depths.
        log_focal: mean of the logarithm of the focal length.
        focal_information: its inverse variance; infinite for a known focal length.
        damping: inverse variance of the poses' steps; infinite for known poses.
    """

    inverse_depth: Float[Tensor, "b v n"]
    depth_information: Float[Tensor, ""]
    log_focal: Float[Tensor, " b"]
    focal_information: Float[Tensor, " b"]
    damping: Float[Tensor, "b v"]


def gauss_newton_step(
    bundle: Bundle, seen: Projection, evidence: Evidence, priors: Priors, neighbours: Int[Tensor, "b v k"]
) -> Bundle:
    b, v, k = neighbours.shape
    n = bundle.inverse_depth.shape[-1]
    jx, jy = seen.by_pose
    dx, dy = seen.by_depth
    fx, fy = seen.by_focal
    g = evidence
    kx = g.xx[..., None, :] * jx + g.xy[..., None, :] * jy
    ky = g.xy[..., None, :] * jx + g.yy[..., None, :] * jy
    h_jj = kx @ jx.mT + ky @ jy.mT
    pull_j = (jx @ g.pull_x[..., None] + jy @ g.pull_y[..., None])[..., 0]
    focal_j = (kx @ fx[..., None] + ky @ fy[..., None])[..., 0]
    e_j = kx * dx[..., None, :] + ky * dy[..., None, :]
    change = -adjoint(seen.relative_rotation, seen.relative_translation)  # by_pose of camera i = by_pose of j @ change
    h_ij = change.mT @ h_jj
    h_ii = h_ij @ change
    pull_i = (change.mT @ pull_j[..., None])[..., 0]
    focal_i = (change.mT @ focal_j[..., None])[..., 0]
    e_i = (change.mT @ e_j).sum(2)
    gx, gy = g.xx * dx + g.xy * dy, g.xy * dx + g.yy * dy
    depth = (gx * dx + gy * dy).sum(2) + priors.depth_information
    pull_depth = (g.pull_x * dx + g.pull_y * dy).sum(2)
    pull_depth = pull_depth - priors.depth_information * (bundle.inverse_depth - priors.inverse_depth)
    focal_depth = (gx * fx + gy * fy).sum(2)  # b v n
    focal = (g.xx * fx * fx + 2 * g.xy * fx * fy + g.yy * fy * fy).sum((1, 2, 3)) + priors.focal_information
    pull_focal = (g.pull_x * fx + g.pull_y * fy).sum((1, 2, 3))
    pull_focal = pull_focal + priors.focal_information * (priors.log_focal - bundle.log_focal)

    # Schur complement: each view's depths tie together its own pose and those of its neighbours.
    own = torch.arange(v, device=neighbours.device).expand(b, v)[..., None]
    tied = torch.cat([own, neighbours], dim=2)  # b v k+1
    e = torch.cat([e_i[:, :, None], e_j], dim=2).flatten(2, 3)  # b v 6(k+1) n
    e_over = e / depth[:, :, None]
    fill = (e_over @ e.mT).unflatten(3, (k + 1, 6)).unflatten(2, (k + 1, 6)).transpose(3, 4)  # b v k+1 k+1 6 6
    blocks = h_jj.new_zeros(b, v * v, 6, 6)
    rows = torch.arange(b, device=neighbours.device)[:, None]

    def add(first: Tensor, second: Tensor, values: Tensor) -> None:
        blocks.index_put_((rows, (first * v + second).flatten(1)), values.flatten(1, -3), accumulate=True)

    i = own.expand(b, v, k)
    add(i, i, h_ii)
    add(neighbours, neighbours, h_jj)
    add(i, neighbours, h_ij)
    add(neighbours, i, h_ij.mT)
    add(tied[..., :, None].expand(b, v, k + 1, k + 1), tied[..., None, :].expand(b, v, k + 1, k + 1), -fill)
    hessian = blocks.unflatten(1, (v, v)).transpose(2, 3).reshape(b, 6 * v, 6 * v)

    def over_views(at_i: Tensor, at_j: Tensor, through_depths: Tensor) -> Tensor:
        total = at_j.new_zeros(b, v, 6)
        total.index_put_((rows, neighbours.flatten(1)), at_j.flatten(1, 2), accumulate=True)
        total.index_put_((rows, tied.flatten(1)), -through_depths.unflatten(2, (k + 1, 6)).flatten(1, 2), accumulate=True)
        return (total + at_i.sum(2)).flatten(1)

    pull = over_views(pull_i, pull_j, (e_over @ pull_depth[..., None])[..., 0])
    cross = over_views(focal_i, focal_j, (e_over @ focal_depth[..., None])[..., 0])
    focal = focal - (focal_depth * focal_depth / depth).sum((1, 2))
    pull_focal = pull_focal - (focal_depth * pull_depth / depth).sum((1, 2))
    damping = priors.damping[..., None].expand(b, v, 6).flatten(1)
    full = torch.cat(
        [
            torch.cat([hessian + torch.diag_embed(damping), cross[..., None]], dim=2),
            torch.cat([cross[:, None], focal[:, None, None]], dim=2),
        ],
        dim=1,
    )
    step = torch.linalg.solve(full, torch.cat([pull, pull_focal[:, None]], dim=1))
    twist, d_focal = step[:, :-1].reshape(b, v, 6), step[:, -1]
    of_tied = twist[torch.arange(b, device=twist.device)[:, None, None], tied].flatten(2)  # b v 6(k+1)
    d_depth = (pull_depth - (e.mT @ of_tied[..., None])[..., 0] - focal_depth * d_focal[:, None, None]) / depth
    turn, move = shortened(twist[..., :3], LARGEST_ROTATION), shortened(twist[..., 3:], LARGEST_TRANSLATION)
    rotation = so3_exp(turn)
    return Bundle(
        rotation @ bundle.rotation,
        (rotation @ bundle.translation[..., None])[..., 0] + move,
        (bundle.inverse_depth + d_depth).clamp(*INVERSE_DEPTHS),
        (bundle.log_focal + d_focal.clamp(-LARGEST_FOCAL, LARGEST_FOCAL)).clamp(*LOG_FOCALS),
    )


def shortened(vector: Float[Tensor, "*batch 3"], longest: float) -> Float[Tensor, "*batch 3"]:
    """The vector, shortened to length ``longest`` if it is longer."""
    return vector * (longest / vector.norm(dim=-1, keepdim=True).clamp(min=longest))
