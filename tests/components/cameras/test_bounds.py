"""Soft bounds of focal lengths and translations: no value exceeds them, and gradients stay above 0."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from openrayzer.components.cameras.bounds import LINEAR_SHARE, CameraBounds, soft_clamp
from openrayzer.composer import load_experiment
from openrayzer.interfaces import CAMERA_HEADS, CameraHead, InputError

HEADS = ["pi3", "quaternion", "rot6d", "se3"]
"""The heads that use ``CameraBounds``."""
EVERY_HEAD = pytest.mark.parametrize("name", HEADS)
EXPERIMENT = Path(__file__).parents[2] / "training/tiny_rayzer.json"
FREE = {"pi3": {"field_of_view": "softplus"}, "se3": {"max_log_focal": None}}
"""Arguments that leave ``CameraBounds`` as the only limit of the focal length."""
FAR = {"pi3": (-10.0, 6.0), "se3": (-10.0, 10.0)}
"""Biases that make the focal length tiny or negative, and huge; -1000 and 1000 for the other heads."""
TOKENS = torch.randn(2, 4, 3, 32, generator=torch.Generator().manual_seed(1))
SIZE = (32, 48)


def focal_bias(head: CameraHead) -> nn.Parameter:
    """The bias of the last layer of the focal length."""
    layer = {"Pi3Head": "fov", "Se3Head": "log_focal"}.get(type(head).__name__, "focal.2")
    return head.get_submodule(layer).bias


def translation_bias(head: CameraHead) -> tuple[nn.Parameter, slice]:
    """The bias of the last layer of the translation, and the slice for the translation."""
    layer = {"Pi3Head": "translation", "Se3Head": "twist"}.get(type(head).__name__, "relative.2")
    return head.get_submodule(layer).bias, slice(-3, None)


@pytest.mark.parametrize(("start", "bound"), [(1.25, 4.0), (1.25, 0.1), (0.0, 2.0), (1.0, 1.0001), (1e-3, 1e3)])
def test_soft_clamp_is_the_identity_inside_and_never_exceeds_the_bound(start: float, bound: float):
    share = torch.cat([torch.linspace(-3, 0.899, 500), torch.tensor([0.0])])
    inside = start + share * (bound - start)
    assert torch.equal(soft_clamp(inside, start=start, bound=bound), inside)
    overshoot = torch.tensor([0.91, 1.0, 2.0, 10.0, 1e3, 1e6, 1e12, 1e30, float("inf")])
    clamped = soft_clamp(start + overshoot * (bound - start), start=start, bound=bound)
    assert (clamped <= bound).all() if bound > start else (clamped >= bound).all()
    assert (clamped.diff() * (bound - start) >= 0).all()  # order is kept


@pytest.mark.parametrize(("start", "bound"), [(1.25, 4.0), (1.25, 0.1), (0.0, 2.0)])
def test_soft_clamp_has_a_continuous_slope_above_0(start: float, bound: float):
    share = torch.tensor([LINEAR_SHARE - 1e-4, LINEAR_SHARE + 1e-4, 1.0, 10.0, 1e3, 1e6, 1e9], dtype=torch.float32)
    value = (start + share * (bound - start)).requires_grad_()
    soft_clamp(value, start=start, bound=bound).sum().backward()
    slope = value.grad
    assert torch.isfinite(slope).all()
    assert (slope > 0).all()
    assert slope[0] == 1
    assert slope[1].item() == pytest.approx(1, abs=5e-3)
    excess = (share[2:].double() - LINEAR_SHARE) / (1 - LINEAR_SHARE)
    torch.testing.assert_close(slope[2:].double(), (1 + excess) ** -2, rtol=1e-3, atol=0)


def test_soft_clamp_reaches_every_value_before_the_bound():
    wanted = torch.tensor([0.95, 0.99, 0.999], dtype=torch.float64)
    raw = LINEAR_SHARE + (1 - LINEAR_SHARE) * (wanted - LINEAR_SHARE) / (1 - wanted)  # the inverse of soft_clamp
    torch.testing.assert_close(soft_clamp(raw, start=0.0, bound=1.0), wanted)


def test_translations_keep_their_direction_and_zero_has_a_finite_gradient():
    bounds = CameraBounds(initial_focal=1.0, max_translation=2.0)
    given = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [30.0, -40.0, 0.0], [1e12, 0.0, 1e12]]).requires_grad_()
    bound = bounds.translation(given)
    assert torch.equal(bound[:2], given[:2])
    assert (bound.norm(dim=-1) <= 2 * (1 + 1e-6)).all()
    torch.testing.assert_close(bound[2] / bound[2].norm(), torch.tensor([0.6, -0.8, 0.0]))
    bound[:3].square().sum().backward()
    assert torch.isfinite(given.grad).all()
    assert (given.grad[2] * given[2]).sum() > 0  # a descent step shortens it


@EVERY_HEAD
@pytest.mark.parametrize("side", [0, 1])
def test_focal_lengths_beyond_their_bounds_keep_a_gradient(small, name: str, side: int):
    head = small(CAMERA_HEADS, name, min_focal=0.2, max_focal=3.0, **FREE.get(name, {}))
    bias = focal_bias(head)
    with torch.no_grad():
        bias.fill_(FAR.get(name, (-1e3, 1e3))[side])
    focal = head(TOKENS, (32, 32)).intrinsics[..., 0]
    assert ((focal >= 0.2 - 1e-6) & (focal <= 3.0 + 1e-6)).all()
    assert ((focal < 0.35) | (focal > 2.8)).all()
    focal.sum().backward()
    assert torch.isfinite(bias.grad).all()
    assert bias.grad.abs().sum() > 0


@EVERY_HEAD
@pytest.mark.parametrize("raw", [3.0, 1e3, 1e6])
def test_cameras_beyond_their_bound_keep_a_gradient(small, name: str, raw: float):
    head = small(CAMERA_HEADS, name, max_translation=1.5)
    bias, part = translation_bias(head)
    with torch.no_grad():
        bias[part] = torch.tensor([raw, -raw, 0.5 * raw])
    cameras = head(TOKENS, SIZE)
    distance = cameras.c2w[..., :3, 3].norm(dim=-1)
    assert (distance <= 1.5 * (1 + 1e-6)).all()
    assert (distance > 1.3).sum() >= distance.numel() - 2  # the canonical view of each clip is the origin
    (cameras.c2w[..., :3, 3] * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert torch.isfinite(bias.grad).all()
    assert bias.grad[part].abs().sum() > 0


@EVERY_HEAD
def test_bounds_do_not_change_rotations(small, name: str):
    free = small(CAMERA_HEADS, name)
    bounded = small(CAMERA_HEADS, name, max_translation=1e-3, max_focal=2.0)
    far = 40 * TOKENS
    assert torch.equal(free(far, SIZE).c2w[..., :3, :3], bounded(far, SIZE).c2w[..., :3, :3])


@EVERY_HEAD
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_focal": 0.5}, r"max_focal 0.5 must be finite and above the initial focal length 1"),
        ({"max_focal": float("nan")}, r"max_focal nan must be finite"),
        ({"max_focal": float("inf")}, r"max_focal inf must be finite"),
        ({"min_focal": -1.0}, r"min_focal -1.0 must be above 0 and below the initial focal length 1"),
        ({"min_focal": 2.0, "max_focal": 3.0}, r"min_focal 2.0 must be above 0 and below the initial focal length 1"),
        ({"max_translation": 0.0}, r"max_translation must be finite and above 0, got 0.0"),
    ],
)
def test_a_bound_that_excludes_the_initial_value_is_an_error(small, name: str, given: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        small(CAMERA_HEADS, name, **given)


def test_bounds_of_a_fixed_focal_length_are_an_error(small):
    with pytest.raises(ValueError, match="have no effect with a fixed field_of_view"):
        small(CAMERA_HEADS, "pi3", field_of_view="fixed", max_focal=3.0)


@pytest.mark.parametrize("name", HEADS)
def test_bounds_in_an_experiment_file_reach_the_camera_head(name: str, tmp_path: Path):
    overrides = [f"model.camera_head.type={name}"]
    resolved = load_experiment(EXPERIMENT, overrides=overrides).resolved["model"]["camera_head"]
    assert (resolved["max_focal"], resolved["max_translation"]) == (None, None)  # off by default
    changes = ["model.camera_head.max_focal=4", "model.camera_head.max_translation=2.5"]
    plan = load_experiment(EXPERIMENT, overrides=[*overrides, *changes])
    file = tmp_path / "again.json"
    file.write_text(json.dumps(plan.resolved))
    model = load_experiment(file).build().model
    assert (model.camera_head.bounds.max_focal, model.camera_head.bounds.max_translation) == (4.0, 2.5)


def test_the_error_for_a_wrong_bound_has_its_json_path():
    plan = load_experiment(EXPERIMENT, overrides=["model.camera_head.max_focal=0.5"])
    with pytest.raises(InputError, match=r"model.camera_head.*max_focal 0.5 must be finite and above"):
        plan.build()
