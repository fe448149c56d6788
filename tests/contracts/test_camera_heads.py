"""What every camera head promises. Tests of optional parameters, such as bounds, run over the heads that have them."""

import pytest
import torch
from learning import awake
from small import entry_of, names

from openrayzer.interfaces import CAMERA_HEADS, CameraHead
from openrayzer.types import Cameras

EVERY_HEAD = pytest.mark.parametrize("name", names(CAMERA_HEADS))


def offering(parameter: str) -> list[str]:
    """Names of the heads whose constructors take this parameter."""
    return [
        name for name in names(CAMERA_HEADS) if parameter in {p.name for p in entry_of(CAMERA_HEADS, name).parameters}
    ]


def tokens(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@EVERY_HEAD
@pytest.mark.parametrize(("num_views", "count"), [(1, 1), (2, 1), (5, 6)])
def test_cameras_are_rigid_with_one_per_view(small, name, num_views, count):
    cameras = small(CAMERA_HEADS, name)(tokens(3, num_views, count, 32, scale=30), (48, 80))
    assert cameras.c2w.shape == (3, num_views, 4, 4)
    assert cameras.intrinsics.shape == (3, num_views, 4)
    rotation = cameras.c2w[..., :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(3, num_views), atol=1e-5, rtol=0)
    assert (cameras.intrinsics > 0).all()


@EVERY_HEAD
def test_pixels_are_square_on_an_image_that_is_not(small, name):
    fx, fy, cx, cy = small(CAMERA_HEADS, name)(tokens(1, 3, 4, 32), (48, 80)).intrinsics.unbind(-1)
    torch.testing.assert_close(fx * 80, fy * 48)
    assert torch.equal(cx, torch.full_like(cx, 0.5))
    assert torch.equal(cy, torch.full_like(cy, 0.5))


@EVERY_HEAD
def test_batch_elements_are_independent(small, name):
    head, values = awake(small(CAMERA_HEADS, name)), tokens(3, 4, 2, 32)
    together, alone = head(values, (32, 32)), head(values[1:2], (32, 32))
    torch.testing.assert_close(together.c2w[1:2], alone.c2w)
    torch.testing.assert_close(together.intrinsics[1:2], alone.intrinsics)


@EVERY_HEAD
def test_cameras_are_float32_and_the_same_under_autocast(small, name):
    head, values = small(CAMERA_HEADS, name), tokens(2, 3, 2, 32, scale=10)
    exact = head(values, (32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        under = head(values, (32, 32))
    assert under.c2w.dtype == under.intrinsics.dtype == torch.float32
    torch.testing.assert_close(under.c2w, exact.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(under.intrinsics, exact.intrinsics)


def total(cameras: Cameras) -> torch.Tensor:
    """A number that depends on every pose and every focal length."""
    weights = torch.randn(cameras.c2w.shape, generator=torch.Generator().manual_seed(2))
    return (cameras.c2w * weights).sum() + cameras.intrinsics.sum()


@EVERY_HEAD
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_gradients_are_finite_and_reach_tokens_and_weights(small, name, scale):
    head, values = small(CAMERA_HEADS, name), tokens(2, 4, 3, 32, scale=scale).requires_grad_()
    total(head(values, (32, 32))).backward()
    assert torch.isfinite(values.grad).all()
    for weight_name, weight in head.named_parameters():
        assert torch.isfinite(weight.grad).all(), weight_name
    values.grad = None
    total(awake(head)(values, (32, 32))).backward()
    reached = {weight_name: weight.grad.abs().sum() > 0 for weight_name, weight in head.named_parameters()}
    assert scale != 1 or all(reached.values()), reached
    assert scale != 1 or values.grad.abs().sum() > 0


@EVERY_HEAD
def test_training_starts_from_nearly_equal_cameras(small, name):
    c2w = small(CAMERA_HEADS, name)(tokens(2, 5, 3, 32), (32, 32)).c2w
    torch.testing.assert_close(c2w, torch.eye(4).expand_as(c2w), atol=0.1, rtol=0)


@EVERY_HEAD
def test_poses_follow_their_views_in_a_head_that_compares_none(small, name):
    head, values = awake(small(CAMERA_HEADS, name)), tokens(2, 4, 3, 32)
    order = torch.tensor([2, 0, 3, 1])
    follows = torch.allclose(head(values[:, order], (32, 32)).c2w, head(values, (32, 32)).c2w[:, order], atol=1e-5)
    assert follows or head.compares_views


@EVERY_HEAD
def test_intrinsics_depend_on_weights_exactly_where_the_head_says_so(small, name):
    head, values = awake(small(CAMERA_HEADS, name)), tokens(2, 4, 3, 32)
    (*gradients,) = torch.autograd.grad(
        head(values, (32, 32)).intrinsics[..., 0].sum() + 0 * sum(w.sum() for w in head.parameters()),
        [*head.parameters()],
    )
    assert any(gradient.abs().sum() > 0 for gradient in gradients) == head.predicts_intrinsics


def wild(head: CameraHead, scale: float) -> CameraHead:
    """The head with weights so large that it predicts nonsense."""
    with torch.no_grad():
        for weight in awake(head).parameters():
            weight.mul_(scale)
    return head


@pytest.mark.parametrize("name", offering("max_translation"))
@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_cameras_stay_within_max_translation_with_gradients_that_are_finite(small, name, scale):
    head = wild(small(CAMERA_HEADS, name, max_translation=1.5), scale)
    cameras = head(tokens(2, 4, 3, 32), (32, 48))
    assert (cameras.c2w[..., :3, 3].norm(dim=-1) <= 1.5 * (1 + 1e-6)).all()
    total(cameras).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in head.parameters())


@pytest.mark.parametrize("name", sorted({*offering("min_focal")} & {*offering("max_focal")}))
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_focal_lengths_stay_within_their_bounds_with_gradients_that_are_finite(small, name, scale):
    head = wild(small(CAMERA_HEADS, name, min_focal=0.2, max_focal=3.0), scale)
    cameras = head(tokens(2, 4, 3, 32), (32, 32))
    focal = cameras.intrinsics[..., 0]
    assert ((focal >= 0.2 - 1e-6) & (focal <= 3.0 + 1e-6)).all()
    total(cameras).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in head.parameters())


@pytest.mark.parametrize("bound", ["min_focal", "max_focal", "max_translation"])
@EVERY_HEAD
def test_a_bound_that_is_far_away_changes_no_bit(small, name, bound):
    if name not in offering(bound):
        return
    far = {"min_focal": 0.05, "max_focal": 50.0, "max_translation": 10.0}[bound]
    free, bounded = (small(CAMERA_HEADS, name, **given)(tokens(2, 4, 3, 32), (32, 48)) for given in ({}, {bound: far}))
    assert torch.equal(free.c2w, bounded.c2w)
    assert torch.equal(free.intrinsics, bounded.intrinsics)
