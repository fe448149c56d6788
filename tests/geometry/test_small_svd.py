"""Our SVD of 3 x 3 matrices equals torch.linalg.svd, for matrices of many kinds."""

import pytest
import torch

from openrayzer.geometry.rotations import rotation_from_9d
from openrayzer.geometry.small_svd import signed_svd

COUNT = 4000
KINDS = (
    "random",
    "ill_conditioned",
    "almost_rotations",
    "equal_values",
    "rank_one",
    "rank_two",
    "zero",
    "tiny",
    "huge",
)
by_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def matrices(kind: str, dtype: torch.dtype) -> torch.Tensor:
    """Matrices of one kind. About half of the matrices with full rank have a negative determinant."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(COUNT, *shape, generator=generator, dtype=torch.float64)

    (left, _), (right, _) = torch.linalg.qr(normal(3, 3)), torch.linalg.qr(normal(3, 3))
    small = 10.0 ** (-6 * torch.rand(COUNT, 3, generator=generator, dtype=torch.float64))
    thin = normal(3, 1) @ normal(1, 3)
    values = {
        "random": normal(3, 3),
        "ill_conditioned": left @ torch.diag_embed(small) @ right,
        "almost_rotations": left @ torch.diag_embed(1 + 1e-3 * small) @ right,
        "equal_values": left @ torch.diag_embed(torch.tensor([2.0, 2.0, -2.0]).double().expand(COUNT, 3)) @ right,
        "rank_one": thin,
        "rank_two": thin + normal(3, 1) @ normal(1, 3),
        "zero": torch.zeros(COUNT, 3, 3),
        "tiny": 1e-30 * normal(3, 3),
        "huge": 1e30 * normal(3, 3),
    }[kind]
    return values.to(dtype)


def by_library(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest rotation and singular values in float64; the last value has the sign of the determinant."""
    u, s, vt = torch.linalg.svd(matrix.double())
    sign = torch.linalg.det(u @ vt).round()
    signs = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    return (u * signs[..., None, :]) @ vt, s * signs


def largest(errors: torch.Tensor) -> float:
    return float(errors.abs().amax())


@by_dtype
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_decomposition_into_rotations(kind, dtype):
    matrix, eps = matrices(kind, dtype), torch.finfo(dtype).eps
    svd = signed_svd(matrix)
    for rotation in (svd.u, svd.vt):
        assert largest(rotation.mT @ rotation - torch.eye(3, dtype=dtype)) < 10 * eps
        assert largest(torch.linalg.det(rotation) - 1) < 10 * eps
    scale = matrix.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(dtype).tiny)
    assert largest((svd.u * svd.s[..., None, :] @ svd.vt - matrix) / scale) < 30 * eps


@by_dtype
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_nearest_rotation_are_those_of_the_library(kind, dtype):
    """The nearest rotation is ill-conditioned where the two smaller values cancel, so the test weights errors there."""
    matrix, eps = matrices(kind, dtype), torch.finfo(dtype).eps
    svd, (rotation, values) = signed_svd(matrix), by_library(matrix)
    largest_value = values[..., :1].clamp(min=1e-300)
    assert largest((svd.s - values) / largest_value) < 20 * eps
    certain = ((values[..., 1] + values[..., 2]) / largest_value[..., 0])[..., None, None]
    assert largest(((svd.u @ svd.vt).double() - rotation) * certain) < 100 * eps


def test_values_are_in_falling_order_and_the_last_has_the_sign_of_the_determinant():
    matrix = matrices("random", torch.float64)
    first, second, third = signed_svd(matrix).s.unbind(-1)
    assert (first >= second).all()
    assert (second >= third.abs()).all()
    assert torch.equal(third.sign(), torch.linalg.det(matrix).sign())


def test_zeros_give_the_identity_and_the_batch_shape_is_kept():
    svd = signed_svd(torch.zeros(2, 0, 3, 3))
    assert svd.u.shape == (2, 0, 3, 3)
    torch.testing.assert_close(signed_svd(torch.zeros(3, 3)).u, torch.eye(3), rtol=0, atol=0)


def test_a_matrix_that_is_not_finite_affects_no_other_matrix():
    values = torch.eye(3).flatten().repeat(3, 1)
    values[1, 4] = torch.inf
    values.requires_grad_()
    rotation = rotation_from_9d(values)
    assert rotation[1].isnan().all()
    torch.testing.assert_close(rotation[::2], torch.eye(3).expand(2, 3, 3))
    (gradient,) = torch.autograd.grad(rotation[0].sum(), values)
    assert gradient[[0, 2]].isfinite().all()
