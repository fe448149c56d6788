"""Singular value decomposition of 3 x 3 matrices in a fixed number of steps.

``torch.linalg.svd`` returns a status, and the host waits for the GPU to read it. This decomposition has no status.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SWEEPS = 5
"""Rounds over all pairs of columns. Convergence is quadratic: 4 rounds suffice in float32, 5 in float64."""

PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class SignedSvd:
    """matrix = u diag(s) vt with proper rotations u and vt.

    Attributes:
        u: rotations.
        s: singular values, s[0] >= s[1] >= |s[2]|; s[2] has the sign of the determinant of the matrix.
        vt: rotations.
    """

    u: Float[Tensor, "*batch 3 3"]
    s: Float[Tensor, "*batch 3"]
    vt: Float[Tensor, "*batch 3 3"]


def signed_svd(matrix: Float[Tensor, "*batch 3 3"]) -> SignedSvd:
    """Singular value decomposition with rotations, by one-sided Jacobi rotations.

    Each step rotates a pair of columns until they are orthogonal, with the longer one first. ``vt`` is the product of
    these rotations, and the directions of the columns are ``u``. The third direction is the cross product of the other
    two. This makes ``u`` a rotation and gives the third singular value its sign. If the decomposition is not unique,
    the result is one of the possible ones.

    Args:
        matrix: finite values in float32 or float64.

    Source: Hestenes 1958, "Inversion of matrices by biorthogonalization and related results".
    """
    scale = matrix.abs().amax(dim=(-2, -1), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    stacked = torch.cat([matrix / scale, eye.expand_as(matrix)], dim=-2)
    columns = list(stacked.unbind(-1))  # 3 x (*batch, 6): a column of the matrix above a column of the rotations
    for _ in range(SWEEPS):
        for first, second in PAIRS:
            columns[first], columns[second] = _orthogonal(columns[first], columns[second])
    sides, rotations = zip(*(column.split(3, dim=-1) for column in columns), strict=True)
    u = _frame(sides[0], sides[1], eye)
    s = torch.stack([(direction * side).sum(dim=-1) for direction, side in zip(u, sides, strict=True)], dim=-1)
    vt = torch.stack(_frame(rotations[0], rotations[1], eye), dim=-2)  # orthonormal again: rounding has accumulated
    return SignedSvd(torch.stack(u, dim=-1), s * scale[..., 0], vt)


def _orthogonal(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both columns, rotated in their plane so that their upper halves are orthogonal and the first is the longer."""
    one, other = first[..., :3], second[..., :3]
    between = (one * other).sum(dim=-1, keepdim=True)
    longer = ((one - other) * (one + other)).sum(dim=-1, keepdim=True)
    angle = 0.5 * torch.atan2(2 * between, longer)
    cosine, sine = angle.cos(), angle.sin()
    return cosine * first + sine * second, cosine * second - sine * first


def _frame(first: Tensor, second: Tensor, eye: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right-handed frame from two almost orthogonal vectors; a zero vector gets one of the free directions."""
    x = _direction(first, default=eye[0])
    spare = eye[x.abs().argmin(dim=-1)]  # the axis farthest from x
    y = _direction(second - x * (x * second).sum(dim=-1, keepdim=True), default=spare)
    z = F.normalize(torch.linalg.cross(x, y, dim=-1), dim=-1)
    return x, torch.linalg.cross(z, x, dim=-1), z


def _direction(vector: Tensor, *, default: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    nonzero = length > torch.finfo(vector.dtype).tiny
    return torch.where(nonzero, vector / torch.where(nonzero, length, 1.0), default)
