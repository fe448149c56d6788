"""Model ``taught``: the loss that a solver's cameras add to another model."""

from pathlib import Path

import pytest
import torch
from painted_room import painted_rooms

from openrayzer.components.solvers.bundle_adjustment import BundleAdjustment
from openrayzer.interfaces import CAMERA_SOLVERS, MATCHERS, MODELS, InputError, Model
from openrayzer.models.taught import Taught
from openrayzer.types import Views
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
