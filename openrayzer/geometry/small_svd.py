"""Singular values and vectors of 3 x 3 matrices in a fixed number of steps.

A library's decomposition returns a status, and the host waits for the GPU to read it; this one has none.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SWEEPS = 5
"""Rounds in which each pair of columns is turned, until all are orthogonal to the last bits. Convergence is quadratic;
4 rounds are enough in float32.
"""

PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class SignedSvd:
    """matrix = u diag(s) vt, where u and vt are rotations; s[2] is negative where the matrix reflects.

    Attributes:
        u: rotations.
        s: s[0] >= s[1] >= |s[2]|.
        vt: rotations.
    """

    u: Float[Tensor, "*batch 3 3"]
    s: Float[Tensor, "*batch 3"]
    vt: Float[Tensor, "*batch 3 3"]


def signed_svd(matrix: Float[Tensor, "*batch 3 3"]) -> SignedSvd:
    """The decomposition of finite matrices in float32 or float64; one of them if there are several.

    The columns of the matrix are turned in pairs until they are orthogonal, the longer one to the front. ``vt`` is the
    product of these turns, and the columns' directions are ``u``. The third direction is the cross product of the other
    two: this makes ``u`` a rotation and gives the third singular value its sign.

    Source: Hestenes, Inversion of matrices by biorthogonalization and related results, 1958.
    """
    scale = matrix.abs().amax(dim=(-2, -1), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    stacked = torch.cat([matrix / scale, eye.expand_as(matrix)], dim=-2)
    columns = list(stacked.unbind(-1))  # three of (*batch, 6): a column of the matrix above one of the turns so far
    for _ in range(SWEEPS):
        for first, second in PAIRS:
            columns[first], columns[second] = _orthogonal(columns[first], columns[second])
    sides, turns = zip(*(column.split(3, dim=-1) for column in columns), strict=True)
    u = _frame(sides[0], sides[1], eye)
    s = torch.stack([(direction * side).sum(dim=-1) for direction, side in zip(u, sides, strict=True)], dim=-1)
    vt = torch.stack(_frame(turns[0], turns[1], eye), dim=-2)  # again: rounding of many turns leaves no exact rotation
    return SignedSvd(torch.stack(u, dim=-1), s * scale[..., 0], vt)


def _orthogonal(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both columns turned in their plane until their upper halves are orthogonal and the first is the longer one."""
    one, other = first[..., :3], second[..., :3]
    between = (one * other).sum(dim=-1, keepdim=True)
    longer = ((one - other) * (one + other)).sum(dim=-1, keepdim=True)
    angle = 0.5 * torch.atan2(2 * between, longer)
    cosine, sine = angle.cos(), angle.sin()
    return cosine * first + sine * second, cosine * second - sine * first


def _frame(first: Tensor, second: Tensor, eye: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Directions of two almost orthogonal vectors, and a third one; a zero vector gets any free direction."""
    x = _direction(first, default=eye[0])
    spare = eye[x.abs().argmin(dim=-1)]  # the axis farthest from x
    y = _direction(second - x * (x * second).sum(dim=-1, keepdim=True), default=spare)
    z = F.normalize(torch.linalg.cross(x, y, dim=-1), dim=-1)
    return x, torch.linalg.cross(z, x, dim=-1), z


def _direction(vector: Tensor, *, default: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    there = length > torch.finfo(vector.dtype).tiny
    return torch.where(there, vector / torch.where(there, length, 1.0), default)
