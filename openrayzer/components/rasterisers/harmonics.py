"""Colours of Gaussians from real spherical harmonics."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.rasterisers.exact_product import exact_product
from openrayzer.interfaces import Gaussians


def colours_towards(gaussians: Gaussians, centres: Float[Tensor, "b v 3"]) -> Float[Tensor, "3 b v k"]:
    """Colours of the Gaussians as cameras see them: the sum of the harmonics plus 0.5, at least 0.

    Args:
        gaussians: the scenes.
        centres: positions of the cameras.

    Raises:
        InputError: the harmonics have a wrong number of coefficients.
    """
    away = rearrange(gaussians.means, "b k c -> c b k 1") - rearrange(centres, "b v c -> c b 1 v")
    basis = harmonic_basis(F.normalize(away, dim=0), gaussians.degree)
    colours = exact_product(torch.stack(basis, dim=-1), gaussians.harmonics)
    return rearrange((colours + 0.5).clamp_min(0), "b k v c -> c b v k")


BASIS_0 = 0.28209479177387814
"""The constant function, 1 / sqrt(4 pi)."""


def harmonic_basis(direction: Float[Tensor, "3 b k v"], degree: int) -> list[Float[Tensor, "b k v"]]:
    """Values of the real spherical harmonics at unit directions, (degree + 1)^2 in all.

    Args:
        direction: unit vectors (x, y, z).
        degree: 0 to 3.

    Source: Sloan 2013, "Efficient Spherical Harmonic Evaluation"; the signs are those of Kerbl et al. 2023, "3D
    Gaussian Splatting for Real-Time Radiance Field Rendering".
    """
    x, y, z = direction.unbind(0)
    basis = [torch.full_like(x, BASIS_0)]
    if degree >= 1:
        basis += [-0.48860251190292 * y, 0.48860251190292 * z, -0.48860251190292 * x]
    if degree >= 2:
        xx, yy, zz, xy = x * x, y * y, z * z, x * y
        difference = xx - yy
        basis += [
            1.092548430592079 * xy,
            -1.092548430592079 * (y * z),
            0.9461746957575601 * zz - 0.3153915652525201,
            -1.092548430592079 * (x * z),
            0.5462742152960395 * difference,
        ]
    if degree >= 3:
        band = 0.4570457994644658 - 2.285228997322329 * zz
        basis += [
            -0.5900435899266435 * (y * (3 * xx - yy)),
            2.890611442640554 * (xy * z),
            y * band,
            z * (1.865881662950577 * zz - 1.119528997770346),
            x * band,
            1.445305721320277 * (z * difference),
            -0.5900435899266435 * (x * (xx - 3 * yy)),
        ]
    return basis
