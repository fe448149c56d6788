"""Rotations: each parametrisation gives proper rotations with correct, finite gradients; inverses and special cases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openrayzer.geometry.rotations import (
    geodesic_angle,
    pose_from,
    quaternion_from_rotation,
    rotation_from_6d,
    rotation_from_9d,
    rotation_from_quaternion,
    se3_exp,
    so3_exp,
    so3_log,
)

EYE = torch.eye(3)
PARAMETRISATIONS = {
    "6d": (rotation_from_6d, 6),
    "9d": (rotation_from_9d, 9),
    "9d_rows_as_given": (lambda values: rotation_from_9d(values, normalise_rows=False), 9),
    "quaternion": (rotation_from_quaternion, 4),
    "so3": (so3_exp, 3),
    "se3": (lambda twist: se3_exp(twist)[..., :3, :3], 6),
}
by_parametrisation = pytest.mark.parametrize(("to_rotation", "width"), PARAMETRISATIONS.values(), ids=PARAMETRISATIONS)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_rotations(count: int, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return rotation_from_quaternion(normal(count, 4, seed=1, dtype=dtype))


def half_turns(count: int) -> torch.Tensor:
    """Rotations by pi, 2 a a^T - I: about the coordinate axes, then about random axes."""
    axes = torch.cat([EYE, torch.nn.functional.normalize(normal(count, 3), dim=-1)])
    return 2 * axes[:, :, None] * axes[:, None, :] - EYE


def assert_rotations(rotation: torch.Tensor) -> None:
    torch.testing.assert_close(rotation.mT @ rotation, EYE.expand_as(rotation), atol=3e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(rotation.shape[:-2]), atol=3e-6, rtol=0)


@by_parametrisation
def test_random_values_give_rotations(to_rotation, width):
    assert_rotations(to_rotation(normal(7, 30, width)))


@by_parametrisation
def test_any_batch_shape(to_rotation, width):
    values = normal(2, 3, width)
    assert to_rotation(values[0, 0]).shape == (3, 3)
    assert to_rotation(values[:0]).shape == (0, 3, 3, 3)
    torch.testing.assert_close(to_rotation(values)[1, 2], to_rotation(values[1, 2]))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(list(PARAMETRISATIONS)))
def test_all_finite_values_give_a_rotation_with_a_finite_gradient(data, name):
    to_rotation, width = PARAMETRISATIONS[name]
    entry = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, 1e-7, -1e-3]) | st.floats(-10, 10, width=32)
    values = torch.tensor(data.draw(st.lists(entry, min_size=width, max_size=width)), requires_grad=True)
    rotation = to_rotation(values)
    assert_rotations(rotation.detach())
    (gradient,) = torch.autograd.grad((rotation * normal(3, 3)).sum(), values)
    assert gradient.isfinite().all()


@by_parametrisation
def test_gradient_is_correct(to_rotation, width):
    values = normal(4, width, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(to_rotation, values)


@pytest.mark.parametrize("width", [6, 9, 4, 3])
def test_zeros_give_the_identity(width):
    to_rotation = {6: rotation_from_6d, 9: rotation_from_9d, 4: rotation_from_quaternion, 3: so3_exp}[width]
    torch.testing.assert_close(to_rotation(torch.zeros(2, width)), EYE.expand(2, 3, 3))


def test_6d_values_are_the_first_two_columns():
    rotation = random_rotations(20)
    values = torch.cat([rotation[..., 0], rotation[..., 1]], dim=-1)
    torch.testing.assert_close(rotation_from_6d(values), rotation)
    torch.testing.assert_close(rotation_from_6d(torch.cat([3 * values[:, :3], 0.1 * values[:, 3:]], dim=-1)), rotation)


def test_6d_is_equivariant_to_rotations_of_its_columns():
    rotation, columns = random_rotations(20), normal(20, 3, 2, seed=2)
    rotated = rotation_from_6d((rotation @ columns).mT.flatten(1))
    torch.testing.assert_close(rotated, rotation @ rotation_from_6d(columns.mT.flatten(1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6, 1e-8, 0.0])
def test_6d_stays_orthonormal_when_its_columns_become_parallel(angle):
    x = torch.nn.functional.normalize(normal(200, 3), dim=-1)
    values = torch.cat([x, 5 * x + angle * normal(200, 3, seed=3)], dim=-1).requires_grad_()
    rotation = rotation_from_6d(values)
    assert_rotations(rotation.detach())
    torch.testing.assert_close(rotation[..., 0], x)
    (gradient,) = torch.autograd.grad((rotation * normal(3, 3)).sum(), values)
    assert gradient.abs().max() < 1e8


def test_9d_is_read_row_by_row():
    rotation = random_rotations(20)
    torch.testing.assert_close(rotation_from_9d(rotation.flatten(1)), rotation, atol=3e-6, rtol=0)
    torch.testing.assert_close(
        rotation_from_9d((rotation * torch.tensor([[1.0], [20.0], [0.3]])).flatten(1)), rotation, atol=3e-6, rtol=0
    )


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_9d_is_the_nearest_rotation(flip):
    matrix = normal(40, 3, 3, dtype=torch.float64)
    matrix = matrix * (flip * torch.linalg.det(matrix).sign())[:, None, None]
    nearest = rotation_from_9d(matrix.flatten(1), normalise_rows=False)
    error = (nearest - matrix).square().sum((-2, -1))
    others = so3_exp(0.3 * normal(500, 1, 3, dtype=torch.float64)) @ nearest
    assert (error <= (others - matrix).square().sum((-2, -1))).all()


def nearest_by_definition(matrix: torch.Tensor) -> torch.Tensor:
    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.linalg.det(u @ vt)
    return u @ torch.diag_embed(torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)) @ vt


def directional_derivative(function, point: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    step = 1e-5
    return (function(point + step * direction) - function(point - step * direction)) / (2 * step)


MATRICES = {
    "rotation": random_rotations(1, dtype=torch.float64)[0],
    "identity": torch.eye(3, dtype=torch.float64),
    "half_turn": half_turns(0)[0].double(),
    "two_equal": torch.diag(torch.tensor([2.0, 2.0, 0.5], dtype=torch.float64)),
    "rank_two": torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)),
    "reflection": torch.diag(torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64)),
}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_9d_gradient_is_correct_where_singular_values_coincide(matrix):
    values = matrix.flatten().clone().requires_grad_()
    weights = normal(3, 3, seed=4, dtype=torch.float64)
    nearest = rotation_from_9d(values, normalise_rows=False)
    (gradient,) = torch.autograd.grad((nearest * weights).sum(), values)
    for direction in torch.eye(9, dtype=torch.float64):
        expected = directional_derivative(nearest_by_definition, matrix, direction.reshape(3, 3))
        assert gradient @ direction == pytest.approx((expected * weights).sum().item(), abs=1e-7)


def test_9d_gradient_equals_that_of_the_svd_for_random_matrices():
    matrix = normal(20, 3, 3, dtype=torch.float64)
    weights = normal(3, 3, seed=4, dtype=torch.float64)
    gradients: list[torch.Tensor] = []
    for function in (lambda m: rotation_from_9d(m.flatten(1), normalise_rows=False), nearest_by_definition):
        leaf = matrix.clone().requires_grad_()
        gradients += torch.autograd.grad((function(leaf) * weights).sum(), leaf)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("normalise_rows", [True, False])
def test_9d_gradient_at_the_identity_is_antisymmetric(normalise_rows):
    values = torch.eye(3).flatten().requires_grad_()
    (gradient,) = torch.autograd.grad(rotation_from_9d(values, normalise_rows=normalise_rows)[0, 1], values)
    torch.testing.assert_close(gradient.reshape(3, 3), torch.tensor([[0.0, 0.5, 0], [-0.5, 0, 0], [0, 0, 0]]))


def test_9d_gives_nan_for_a_bad_sample_only():
    values = normal(3, 9)
    values[1, 4] = math.nan
    rotation = rotation_from_9d(values)
    assert rotation[1].isnan().all()
    assert_rotations(rotation[[0, 2]])


def test_quaternion_starts_with_w():
    torch.testing.assert_close(
        rotation_from_quaternion(torch.tensor([math.cos(0.3), 0.0, 0.0, math.sin(0.3)])),
        so3_exp(torch.tensor([0.0, 0.0, 0.6])),
    )


def test_quaternion_round_trip():
    quaternion = torch.nn.functional.normalize(normal(500, 4), dim=-1)
    quaternion = quaternion * quaternion[:, :1].sign()
    torch.testing.assert_close(
        quaternion_from_rotation(rotation_from_quaternion(3 * quaternion)), quaternion, atol=1e-6, rtol=0
    )


def test_quaternion_of_half_turns():
    rotation = half_turns(100)
    quaternion = quaternion_from_rotation(rotation)
    torch.testing.assert_close(quaternion[:, 0], torch.zeros(103), atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation_from_quaternion(quaternion), rotation, atol=1e-6, rtol=0)


def test_quaternion_gradient_is_finite_at_the_identity_and_at_half_turns():
    rotation = torch.cat([EYE[None], half_turns(10)]).requires_grad_()
    (gradient,) = torch.autograd.grad((quaternion_from_rotation(rotation) * normal(14, 4)).sum(), rotation)
    assert gradient.isfinite().all()


def axes_of_length(length: float, *, dtype: torch.dtype) -> torch.Tensor:
    return length * torch.nn.functional.normalize(normal(50, 3, seed=5, dtype=dtype), dim=-1)


@pytest.mark.parametrize("length", [0.0, 1e-20, 1e-7, 1e-3, 0.0199, 0.0201, 0.499, 0.501, 1.5, 3.0, 3.1415, math.pi])
def test_log_undoes_exp(length):
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        omega = axes_of_length(length, dtype=dtype)
        back = so3_log(so3_exp(omega))
        if length == math.pi:  # either axis is right
            back = back * (back * omega).sum(-1, keepdim=True).sign()
        torch.testing.assert_close(back, omega, atol=tolerance, rtol=1e-6 if dtype == torch.float32 else 1e-12)


def test_exp_undoes_log():
    rotation = torch.cat([random_rotations(100), half_turns(20), EYE[None]])
    torch.testing.assert_close(so3_exp(so3_log(rotation)), rotation, atol=2e-6, rtol=0)


@pytest.mark.parametrize("length", [0.0, 1e-9, 0.1, 0.4999, 0.5001, 3.0])
def test_exp_is_the_matrix_exponential(length):
    twist = torch.cat([axes_of_length(length, dtype=torch.float64), normal(50, 3, dtype=torch.float64)], dim=-1)
    wx, wy, wz, vx, vy, vz = twist.unbind(-1)
    zero = torch.zeros_like(wx)
    rows = [zero, -wz, wy, vx, wz, zero, -wx, vy, -wy, wx, zero, vz, zero, zero, zero, zero]
    expected = torch.linalg.matrix_exp(torch.stack(rows, -1).reshape(-1, 4, 4))
    torch.testing.assert_close(se3_exp(twist), expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(so3_exp(twist[:, :3]), expected[:, :3, :3], atol=1e-13, rtol=0)
    torch.testing.assert_close(se3_exp(twist.float()), expected.float(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("length", [0.0, 1e-8, 0.019, 0.021, 0.499, 0.501, 2.0])
def test_gradients_of_exp_and_log(length):
    omega = axes_of_length(length, dtype=torch.float64)[:3]
    twist = torch.cat([omega, normal(3, 3, dtype=torch.float64)], dim=-1).requires_grad_()
    assert torch.autograd.gradcheck(se3_exp, twist)
    assert torch.autograd.gradcheck(lambda values: so3_log(so3_exp(values)), omega.requires_grad_())


def test_gradient_of_log_is_finite_at_half_turns():
    rotation = half_turns(10).requires_grad_()
    (gradient,) = torch.autograd.grad(so3_log(rotation).square().sum(), rotation)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("angle", [0.0, 1e-5, 1e-3, 0.5, 2.0, 3.14159, math.pi])
def test_geodesic_angle(angle):
    first = random_rotations(50, dtype=torch.float64)
    second = first @ so3_exp(axes_of_length(angle, dtype=torch.float64))
    torch.testing.assert_close(geodesic_angle(first, second), torch.full((50,), angle, dtype=torch.float64))
    rounded = geodesic_angle(first.float(), second.float())
    torch.testing.assert_close(rounded, torch.full((50,), angle), atol=5e-7, rtol=1e-6)


def test_geodesic_angle_between_equal_rotations_is_zero():
    rotation = random_rotations(50)
    assert (geodesic_angle(rotation, rotation) < 1e-7).all()


def test_pose_from_moves_points():
    pose = pose_from(random_rotations(1)[0], torch.tensor([1.0, 2.0, 3.0]))
    point = pose @ torch.tensor([0.5, 0.25, 2.0, 1.0])
    torch.testing.assert_close(point[:3], pose[:3, :3] @ torch.tensor([0.5, 0.25, 2.0]) + torch.tensor([1.0, 2, 3]))
    assert point[3] == 1
