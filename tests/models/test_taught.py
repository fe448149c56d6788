"""Model ``taught``: the loss that a solver's cameras add to another model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from painted_room import painted_rooms

from openrayzer.components.matchers.patch_correlation import PatchCorrelation
from openrayzer.components.solvers.bundle_adjustment import BundleAdjustment
from openrayzer.evaluation.metrics.camera_metrics import rotation_errors
from openrayzer.geometry.rotations import so3_exp
from openrayzer.interfaces import CAMERA_SOLVERS, MATCHERS, MODELS, InputError, Model
from openrayzer.models.taught import Taught
from openrayzer.types import Cameras, Views
from openrayzer.weights.weight_folder import write_weights


@pytest.fixture
def parts(small) -> dict[str, object]:
    return {
        "student": small(MODELS, "rayder", targets_see="all"),
        "matcher": small(MATCHERS, "patch_correlation", cells=18),
        "teacher": small(CAMERA_SOLVERS, "bundle_adjustment", starts=1, focal_starts=1),
    }


def test_checkpoints_hold_the_student_alone(parts):
    model = Taught(**parts)
    assert set(model.state_dict()) == {"step", *(f"student.{name}" for name in parts["student"].state_dict())}


@torch.no_grad()
def test_outside_of_training_the_model_is_its_student(parts, views, monkeypatch):
    model = Taught(**parts).eval()
    monkeypatch.setattr(BundleAdjustment, "forward", None)
    seen, wanted = model(views), parts["student"](views)
    torch.testing.assert_close(seen.images, wanted.images)
    torch.testing.assert_close(seen.cameras.c2w, wanted.cameras.c2w)


def test_the_loss_fades_and_reaches_the_estimator(parts, views):
    model = Taught(**parts, start_weight=0.4, end_weight=0.1, fade_batches=2).train()
    losses = []
    for _ in range(4):
        torch.manual_seed(0)
        losses.append(model(views).extra_losses["taught_cameras"])
    losses[0].backward()
    first, *later = (loss.item() / losses[0].item() for loss in losses)
    assert [first, *later] == pytest.approx([1, 0.625, 0.25, 0.25], rel=1e-3)
    assert all(weight.grad is not None for weight in parts["student"].camera_head.parameters())
    assert all(weight.grad is None for weight in parts["teacher"].parameters())


def test_copies_of_a_view_are_taught_one_camera(parts):
    images = painted_rooms(1, image_size=(64, 64), num_views=4).images[:, [0, 1, 1, 2, 3]]
    poses = Taught(**parts)._solved(images).c2w
    torch.testing.assert_close(poses[:, 1], poses[:, 2], atol=0, rtol=0)
    assert (poses[:, 1] - poses[:, 0]).abs().max() > 0.01


def exported(parts: dict[str, object], folder: Path) -> str:
    """A file with other weights for matcher and solver, as in an export of rayzer_geometric."""
    state = {f"{kind}.{name}": value + 0.5 for kind, part in (("matcher", "matcher"), ("solver", "teacher"))
             for name, value in parts[part].state_dict().items()}  # fmt: skip
    write_weights(state, folder / "model.safetensors")
    return str(folder / "model.safetensors")


def test_the_first_training_batch_reads_the_weights_of_the_teacher(parts, views: Views, tmp_path):
    before = parts["teacher"].log_focal.clone()
    model: Model = Taught(**parts, teacher_weights=exported(parts, tmp_path)).train()
    torch.testing.assert_close(parts["teacher"].log_focal, before)
    model(views)
    torch.testing.assert_close(parts["teacher"].log_focal, before + 0.5)


def test_a_missing_file_of_weights_is_refused(parts, views, tmp_path):
    model = Taught(**parts, teacher_weights=str(tmp_path / "model.safetensors")).train()
    with pytest.raises(InputError, match="export a trained rayzer_geometric"):
        model(views)


def test_a_posed_student_is_refused(parts, small):
    with pytest.raises(InputError, match="needs true cameras"):
        Taught(**parts | {"student": small(MODELS, "lvsm_decoder_only")})


def test_weights_below_zero_are_refused(parts):
    with pytest.raises(InputError, match="must be 0 or more"):
        Taught(**parts, end_weight=-1.0)


def test_the_teacher_stops_when_the_weight_is_0(parts, views, monkeypatch):
    model = Taught(**parts, end_weight=0.0, fade_batches=1).train()
    assert "taught_cameras" in model(views).extra_losses
    monkeypatch.setattr(BundleAdjustment, "forward", None)
    assert "taught_cameras" not in model(views).extra_losses


def test_a_resumed_run_goes_on_with_its_weight(parts, views):
    model = Taught(**parts, end_weight=0.0, fade_batches=2).train()
    model(views)
    model.load_state_dict(model.state_dict() | {"step": torch.tensor(2)})
    assert "taught_cameras" not in model(views).extra_losses


def cameras_of_renders(model: Taught, views: Views, monkeypatch) -> Cameras:
    """The cameras with which a training batch is rendered."""
    seen = []
    predict = type(model.student).predict
    monkeypatch.setattr(type(model.student), "predict", lambda *given: (seen.append(given[2]), predict(*given))[1])
    model(views)
    return seen[0]


def test_the_first_batches_are_rendered_with_the_cameras_of_the_teacher(parts, monkeypatch):
    views = painted_rooms(1, image_size=(32, 32), num_views=4)
    model = Taught(**parts, forced_batches=10).train()
    wanted, shown = model._solved(views.images), cameras_of_renders(model, views, monkeypatch)
    torch.testing.assert_close(shown.intrinsics, wanted.intrinsics)
    torch.testing.assert_close(distances(shown.c2w), distances(wanted.c2w), atol=1e-5, rtol=1e-4)
    assert distances(wanted.c2w).amax() > 0.01
    torch.testing.assert_close(
        shown.c2w[..., :3, 3].mean(1), model.student.estimate(views.images).c2w[..., :3, 3].mean(1)
    )


def distances(c2w: torch.Tensor) -> torch.Tensor:
    return torch.cdist(c2w[..., :3, 3], c2w[..., :3, 3])


def test_later_batches_are_rendered_with_the_cameras_of_the_student(parts, views):
    model = Taught(**parts, forced_batches=1).train()
    first = model(views).extra_losses
    torch.manual_seed(3)
    shown = model(views).images
    torch.manual_seed(3)
    torch.testing.assert_close(shown, parts["student"](views).images)
    assert first["taught_cameras"] > 0


def test_direct_steps_improve_rough_cameras(parts):
    views = painted_rooms(1, image_size=(64, 64), num_views=4)
    parts |= {"matcher": PatchCorrelation(), "teacher": BundleAdjustment()}
    model = Taught(**parts, finish_steps=6).eval()
    turned = views.cameras.c2w.clone()
    turned[:, 1::2, :3, :3] = so3_exp(torch.tensor([0.0, 0.06, 0.0])) @ turned[:, 1::2, :3, :3]
    turned[..., :3, 3] *= 5
    rough = Cameras(turned, views.cameras.intrinsics)
    model.student.estimate = lambda images, intrinsics=None: rough
    finished = model.estimate(views.images, views.cameras.intrinsics)
    before, after = (rotation_errors(cameras.c2w, views.cameras.c2w).mean() for cameras in (rough, finished))
    assert after < before / 3
    torch.testing.assert_close(finished.intrinsics, views.cameras.intrinsics)


def test_checkpoints_of_a_model_with_direct_steps_hold_the_teacher(parts):
    model = Taught(**parts, finish_steps=3).train()
    names = set(model.state_dict())
    assert {f"teacher.{name}" for name in parts["teacher"].state_dict()} <= names
    assert {f"matcher.{name}" for name in parts["matcher"].state_dict()} <= names
    assert not model.teacher.training
    assert not any(weight.requires_grad for weight in model.teacher.parameters())


def test_more_than_six_direct_steps_are_refused(parts):
    with pytest.raises(InputError, match="finish_steps 0 to 6"):
        Taught(**parts, finish_steps=7)


def test_lessons_repeat_earlier_batches_without_the_teacher(parts, views, monkeypatch):
    model, seen, solved = Taught(**parts, lessons=2).train(), [], []
    estimate, solve = model.student.estimate, model._solved
    monkeypatch.setattr(
        model.student, "estimate", lambda images: (seen.append(images.mean().item()), estimate(images))[1]
    )
    monkeypatch.setattr(model, "_solved", lambda images: (solved.append(images.mean().item()), solve(images))[1])
    for share in (0.25, 0.5, 0.75, 1.0):
        model(replace(views, images=views.images * share))
    assert len(solved) == 4
    assert len(seen) == 8
    assert set(seen) <= set(solved)
    assert set(seen[6:]) - {solved[-1]}, "the last batch repeats an earlier one"
