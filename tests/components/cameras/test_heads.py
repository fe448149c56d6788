"""Formulas of the camera heads, and the options of each head."""

import math

import pytest
import torch

from openrayzer.geometry.intrinsics import focal_to_fov
from openrayzer.interfaces import CAMERA_HEADS


def tokens(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("canonical", "chosen"), [("first", 0), ("middle", 2)])
def test_rot6d_keeps_the_canonical_view_at_the_origin(small, canonical, chosen):
    head = small(CAMERA_HEADS, "rot6d", canonical=canonical)
    c2w = head(tokens(2, 5, 1, 32, scale=1000), (32, 32)).c2w
    assert torch.equal(c2w[:, chosen], torch.eye(4).expand(2, 4, 4))
    moved = (c2w - torch.eye(4)).abs().amax((0, 2, 3))
    assert [view for view in range(5) if moved[view] > 0] == [view for view in range(5) if view != chosen]


def test_rot6d_focal_length_starts_at_initial_focal_and_stays_above_min_focal(small):
    head = small(CAMERA_HEADS, "rot6d")
    torch.testing.assert_close(
        head(tokens(1, 3, 1, 32), (32, 32)).intrinsics[..., 0], torch.full((1, 3), 1.25), atol=1e-2, rtol=0
    )
    with torch.no_grad():
        head.focal[-1].bias.fill_(-50.0)
    assert head(tokens(1, 3, 1, 32), (32, 32)).intrinsics[0, 0, 0].item() == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("bias", [-1e4, -20.0, 0.0, 20.0, 1e4])
def test_pi3_field_of_view_stays_between_0_and_pi(small, bias):
    head = small(CAMERA_HEADS, "pi3")
    with torch.no_grad():
        head.fov.bias.fill_(bias)
    focal = head(tokens(2, 3, 4, 32), (32, 48)).intrinsics[..., 1]
    fov = focal_to_fov(focal)
    assert ((fov > 0) & (fov < math.pi)).all()
    assert torch.isfinite(focal).all()
    assert (focal > 0).all()
    assert (focal == focal[:, :1]).all()  # one per scene


def test_pi3_starts_at_initial_fov_and_rejects_values_outside_0_and_pi(small):
    focal = small(CAMERA_HEADS, "pi3", initial_fov=1.0)(tokens(1, 2, 3, 32), (32, 32)).intrinsics[0, 0, 0]
    assert focal_to_fov(focal).item() == pytest.approx(1.0, abs=0.02)
    with pytest.raises(ValueError, match=r"\(0, pi\) radians, got 4"):
        small(CAMERA_HEADS, "pi3", initial_fov=4.0)


@pytest.mark.parametrize("field_of_view", ["bounded", "softplus", "fixed"])
def test_pi3_starts_at_initial_fov_with_each_kind_of_field_of_view(small, field_of_view):
    head = small(CAMERA_HEADS, "pi3", initial_fov=1.0, field_of_view=field_of_view)
    intrinsics = head(tokens(2, 3, 4, 32), (32, 32)).intrinsics
    torch.testing.assert_close(focal_to_fov(intrinsics[..., 0]), torch.ones(2, 3), atol=0.02, rtol=0)
    assert head.predicts_intrinsics == (field_of_view != "fixed")
    assert any("fov" in name for name, _ in head.named_parameters()) == head.predicts_intrinsics


def test_pi3_softplus_has_no_upper_bound(small):
    head = small(CAMERA_HEADS, "pi3", field_of_view="softplus")
    with torch.no_grad():
        head.fov.weight.zero_()
        head.fov.bias.fill_(3.5)
    assert head(tokens(1, 2, 3, 32), (32, 32)).intrinsics[0, 0, 0].item() * 512 == pytest.approx(-50, abs=1)


@pytest.mark.parametrize("name", ["rot6d", "quaternion"])
def test_focal_unit_and_min_focal_of_relative_heads(small, name):
    values = tokens(1, 3, 1, 32)
    fx, fy, *_ = small(CAMERA_HEADS, name, focal_unit="own_side")(values, (32, 64)).intrinsics[0, 0].tolist()
    assert fx == fy == pytest.approx(1.25, abs=1e-2)
    head = small(CAMERA_HEADS, name, min_focal=None)
    with torch.no_grad():
        head.focal[-1].bias.fill_(-5.0)
    assert head(values, (32, 32)).intrinsics[0, 0, 0].item() == pytest.approx(-3.75, abs=1e-2)
    with pytest.raises(ValueError, match=r"min_focal 2.0 must be above 0 and below the initial focal length 1.25"):
        small(CAMERA_HEADS, name, min_focal=2.0)


def test_se3_focal_length_is_one_per_view_or_one_per_scene(small):
    values = tokens(1, 3, 1, 32)
    for focal_per, different in (("view", True), ("scene", False)):
        head = small(CAMERA_HEADS, "se3", focal_per=focal_per, initial_focal=0.5)
        assert head(values, (32, 32)).intrinsics[0, :, 0].tolist() == [0.5] * 3  # zero at the start
        with torch.no_grad():
            head.log_focal.weight.normal_(generator=torch.Generator().manual_seed(0))
        focal = head(values, (32, 32)).intrinsics[0, :, 0]
        assert (focal.std() > 1e-3) == different


@pytest.mark.parametrize("name", ["rot6d", "quaternion"])
def test_relative_heads_without_a_focal_bias_and_with_larger_initial_weights(small, name):
    head = small(CAMERA_HEADS, name, focal_bias=False, initial_std=0.02)
    assert head.focal[-1].bias is None
    assert head.focal[0].bias is not None
    assert head.relative[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
