"""Rotations and their parametrisations: 6D, 9D, quaternions, so(3), se(3).

Functions compute and return float32, or float64 if the input is float64, without autocast. For all finite inputs,
results are proper rotations and gradients are finite.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from openrayzer.geometry.precision import full_precision, no_autocast, product
from openrayzer.geometry.small_svd import signed_svd

SHORTEST = 1e-6
"""Vectors that are shorter than this get a default direction before normalisation; this bounds the gradient."""

SMALLEST_DENOMINATOR = 1e-5
"""Lower limit of sums of singular values. It keeps the gradient finite where the nearest rotation is not unique."""

SERIES_BELOW = 0.5
"""Below this angle in radians, functions like sin(x) / x use their power series."""

SERIES_TERMS = 7
"""Number of terms of a power series; the error is at most 1e-14 up to ``SERIES_BELOW``."""

LOG_SERIES_BELOW = 1e-2
"""Below this tangent of half the angle, atan(x) / x uses its power series."""


def rotation_from_6d(values: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation from six numbers by Gram-Schmidt.

    ``values[0:3]``, normalised, is the first column. The second column is the part of ``values[3:6]`` that is
    orthogonal to the first, normalised. Zeros give the identity. If the two vectors are parallel, the result is one of
    the possible rotations.

    Source: Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural Networks", section 4.2.
    """
    with no_autocast(values):
        axes = torch.eye(3, dtype=full_precision(values).dtype, device=values.device)
        first, second = full_precision(values).split(3, dim=-1)
        x = _unit(first, default=axes[0])
        guide = _unit(second, default=axes[1])
        # If guide is parallel to x, the coordinate axis farthest from x replaces it.
        spare = axes[x.detach().abs().argmin(dim=-1)]
        z = _unit(_cross(x, guide), default=F.normalize(_cross(x, spare), dim=-1))
        # If x and guide are almost parallel, rounding leaves a component of x in z; these two products remove it.
        y = F.normalize(_cross(z, x), dim=-1)
        return torch.stack([x, y, _cross(x, y)], dim=-1)


def rotation_from_9d(values: Float[Tensor, "*batch 9"], *, normalise_rows: bool = True) -> Float[Tensor, "*batch 3 3"]:
    """Rotation nearest to a 3 x 3 matrix in the Frobenius norm, by SVD.

    A matrix that is not finite gives a matrix of NaN.

    Args:
        values: the matrix, row by row.
        normalise_rows: True scales each row to length 1 first; zero rows become rows of the identity.

    Source: Levinson et al. 2020, "An Analysis of SVD for Deep Rotation Estimation", equation 1; normalised rows as in
    Wang et al. 2025, "Pi3: Permutation-Equivariant Visual Geometry Learning".
    """
    with no_autocast(values):
        matrix = rearrange(full_precision(values), "... (row column) -> ... row column", row=3)
        if normalise_rows:
            matrix = _unit(matrix, default=torch.eye(3, dtype=matrix.dtype, device=matrix.device))
        return _NearestRotation.apply(matrix)


class _NearestRotation(torch.autograd.Function):
    """U V^T of M = U S V^T, where U and V are rotations and the last entry of S has the sign of det M.

    The gradient of the SVD itself is NaN where singular values coincide, and they coincide at every rotation. The
    projection is smooth there: with R = U V^T, dM = dR R^T M + R d(R^T M) and the symmetry of R^T M give
    V^T R^T dR V = (X - X^T) / (s_i + s_j) for X = U^T dM V. ``backward`` is the adjoint of this map.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        # NaN from a bad sample must reach the loss, so that training can skip the step; its gradient stays finite.
        finite = matrix.isfinite().all(dim=(-2, -1), keepdim=True)
        eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
        svd = signed_svd(torch.where(finite, matrix, eye))
        ctx.save_for_backward(svd.u, svd.s, svd.vt)
        return torch.where(finite, product(svd.u, svd.vt), torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        u, s, vt = ctx.saved_tensors
        inner = product(product(u.mT, gradient), vt.mT)
        denominator = (s[..., :, None] + s[..., None, :]).clamp(min=SMALLEST_DENOMINATOR)
        return product(product(u, (inner - inner.mT) / denominator), vt)


def rotation_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation of a quaternion (w, x, y, z) of any length; zeros give the identity."""
    with no_autocast(quaternion):
        quaternion = full_precision(quaternion)
        default = torch.eye(4, dtype=quaternion.dtype, device=quaternion.device)[0]
        w, x, y, z = _unit(quaternion, default=default).unbind(-1)
        entries = [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ]  # fmt: skip
        return rearrange(torch.stack(entries, dim=-1), "... (row column) -> ... row column", row=3)


def quaternion_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion (w, x, y, z) with w >= 0 of any rotation, including rotations by pi.

    The entries of a rotation are linear in the products q_i q_j, so they give the matrix 4 q q^T. The row with the
    largest diagonal entry is a multiple of q, and its length is far from 0.
    """
    with no_autocast(rotation):
        a, b, c, d, e, f, g, h, i = rearrange(full_precision(rotation), "... row column -> (row column) ...").unbind(0)
        entries = [
            1 + a + e + i, h - f, c - g, d - b,
            h - f, 1 + a - e - i, b + d, c + g,
            c - g, b + d, 1 - a + e - i, f + h,
            d - b, c + g, f + h, 1 - a - e + i,
        ]  # fmt: skip
        outer = rearrange(torch.stack(entries, dim=-1), "... (row column) -> ... row column", row=4)
        best = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
        row = torch.take_along_dim(outer, best[..., None, None], dim=-2).squeeze(-2)
        quaternion = F.normalize(row, dim=-1)
        return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def so3_exp(omega: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about the axis ``omega`` by the angle a = |omega| in radians.

    Source: Rodrigues' formula, I + sin(a)/a K + (1 - cos(a))/a^2 K^2, where K v = omega x v.
    """
    with no_autocast(omega):
        omega = full_precision(omega)
        sine, cosine, _ = _angle_quotients(omega)
        cross = hat(omega)
        eye = torch.eye(3, dtype=omega.dtype, device=omega.device)
        return eye + sine[..., None] * cross + cosine[..., None] * product(cross, cross)


def so3_log(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis times angle of a rotation, angle in [0, pi]. At pi two axes are possible, and the result has one of them."""
    with no_autocast(rotation):
        w, imaginary = quaternion_from_rotation(rotation).split([1, 3], dim=-1)
        square = imaginary.square().sum(dim=-1, keepdim=True)
        small = square < (LOG_SERIES_BELOW * w).square()
        tangent = torch.where(small, square / torch.where(small, w, 1.0).square(), 0.0)
        series = (1 - tangent * (1 / 3 - tangent * (1 / 5 - tangent / 7))) / torch.where(small, w, 1.0)
        length = torch.where(small, 1.0, square).sqrt()
        return imaginary * 2 * torch.where(small, series, torch.atan2(length, w) / length)


def se3_exp(twist: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 4 4"]:
    """Rigid motion of a twist (omega, v): rotation exp(omega), translation J(omega) v.

    J is the left Jacobian of SO(3), I + (1 - cos(a))/a^2 K + (a - sin(a))/a^3 K^2, with a and K as in ``so3_exp``.

    Source: Barfoot, "State Estimation for Robotics", equations 7.85 and 7.86.
    """
    with no_autocast(twist):
        omega, velocity = full_precision(twist).split(3, dim=-1)
        _, cosine, rest = _angle_quotients(omega)
        cross = _cross(omega, velocity)
        return pose_from(so3_exp(omega), velocity + cosine * cross + rest * _cross(omega, cross))


def geodesic_angle(first: Float[Tensor, "*batch 3 3"], second: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of the rotation between two rotations, in radians, in [0, pi]. It is exact for tiny angles."""
    with no_autocast(first):
        between = quaternion_from_rotation(product(full_precision(first).mT, full_precision(second)))
        return 2 * torch.atan2(between[..., 1:].norm(dim=-1), between[..., 0])


def pose_from(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Matrix of the rigid motion x -> rotation x + translation."""
    top = torch.cat([full_precision(rotation), full_precision(translation)[..., None]], dim=-1)
    last = torch.eye(4, dtype=top.dtype, device=top.device)[3:].expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, last], dim=-2)


def _unit(vector: Tensor, *, default: Tensor) -> Tensor:
    """``vector`` scaled to length 1. Vectors that are too short first get a multiple of the unit vector ``default``."""
    short = torch.linalg.vector_norm(vector.detach(), dim=-1, keepdim=True) < SHORTEST
    return F.normalize(torch.where(short, vector + 2 * SHORTEST * default, vector), dim=-1)


def _angle_quotients(omega: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1 - cos(a))/a^2 and (a - sin(a))/a^3 for a = |omega|, each (..., 1)."""
    square = omega.square().sum(dim=-1, keepdim=True)
    small = square < SERIES_BELOW**2
    angle = torch.where(small, 1.0, square).sqrt()
    sine = angle.sin() / angle
    cosine = 0.5 * ((angle / 2).sin() / (angle / 2)).square()  # 1 - cos(a) would cancel
    rest = (1 - sine) / angle.square()
    near = torch.where(small, square, 0.0)
    closed = (sine, cosine, rest)
    first, second, third = (torch.where(small, _series(near, k), value) for k, value in enumerate(closed, start=1))
    return first, second, third


def _series(square: Tensor, start: int) -> Tensor:
    """Sum over k of (-1)^k square^k / (2 k + start)!."""
    total = torch.zeros_like(square)
    for k in reversed(range(SERIES_TERMS)):
        total = (-1) ** k / math.factorial(2 * k + start) + square * total
    return total


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return torch.linalg.cross(first, second, dim=-1)


def hat(omega: Tensor) -> Tensor:
    """The matrix K with K v = omega x v."""
    x, y, z = omega.unbind(-1)
    zero = torch.zeros_like(x)
    entries = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    return rearrange(entries, "... (row column) -> ... row column", row=3)
