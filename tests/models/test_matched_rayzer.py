"""RayZer whose camera estimator sees matches between the views."""

import pytest
import torch
from learning import loss_of
from painted_room import painted_rooms

from openrayzer.geometry.poses import invert
from openrayzer.interfaces import ATTENTION_LAYOUTS, CAMERA_HEADS, MATCHERS, MODELS, InputError
from openrayzer.models.rayzer import RayZer
from openrayzer.types import Cameras, Views

SEES = pytest.mark.parametrize("sees", ["matches", "both"])


@pytest.fixture(scope="module")
def clips() -> Views:
    return painted_rooms(2, image_size=(32, 40), num_views=5)


def rayzer(small, sees: str, **given) -> RayZer:
    model = small(
        MODELS,
        "rayzer",
        layout=small(ATTENTION_LAYOUTS, "global"),
        camera_head=small(CAMERA_HEADS, "pi3"),
        matcher=small(MATCHERS, "patch_correlation", cells=18),
        estimator_sees=sees,
        **given,
    )
    with torch.no_grad():  # cameras would be almost equal
        model.pair_tokens.joined[-1].weight.mul_(100)
        model.camera_head.translation.weight.mul_(100)
    return model


def relative_poses(cameras: Cameras) -> torch.Tensor:
    return invert(cameras.c2w[:, :1]) @ cameras.c2w


@SEES
@torch.no_grad()
def test_cameras_follow_the_order_of_the_views(small, clips, sees):
    model, order = rayzer(small, sees).eval(), torch.tensor([3, 0, 4, 1, 2])
    before, after = model.estimate(clips.images), model.estimate(clips.images[:, order])
    poses = relative_poses(before)
    assert poses[..., :3, 3].norm(dim=-1).amax() > 1e-2
    torch.testing.assert_close(after.c2w, before.c2w[:, order], atol=1e-5, rtol=0)
    torch.testing.assert_close(after.intrinsics, before.intrinsics, atol=1e-5, rtol=0)


@SEES
@torch.no_grad()
def test_any_number_of_views_has_finite_cameras(small, clips, sees):
    model = rayzer(small, sees).eval()
    for count in (1, 2, 5):
        assert model.estimate(clips.images[:, :count]).c2w.isfinite().all()


@torch.no_grad()
def test_copies_of_a_view_have_one_camera(small, clips):
    poses = rayzer(small, "both").eval().estimate(clips.images[:, [0, 1, 1, 2, 3]]).c2w
    torch.testing.assert_close(poses[:, 1], poses[:, 2], atol=1e-6, rtol=0)
    assert (poses[:, 1] - poses[:, 0]).abs().amax() > 1e-3


@torch.no_grad()
def test_cameras_from_matches_alone_read_no_patch_token(small, clips):
    model = rayzer(small, "matches").eval()
    before = model.estimate(clips.images)
    for weight in model.tokenizer.parameters():
        weight.zero_()
    torch.testing.assert_close(model.estimate(clips.images).c2w, before.c2w)


def test_the_loss_of_the_images_trains_the_network_that_reads_matches_but_not_the_matcher(small, clips):
    model = rayzer(small, "matches").train()
    loss_of(model, clips).backward()
    of_matches = dict(model.pair_tokens.named_parameters())
    assert all(weight.grad.abs().sum() > 0 for name, weight in of_matches.items() if not name.startswith("matcher."))
    assert all(weight.grad is None for name, weight in of_matches.items() if name.startswith("matcher."))
    assert not model.pair_tokens.matcher.training


def test_without_a_matcher_there_are_no_further_weights(small):
    assert not [name for name in small(MODELS, "rayzer").state_dict() if name.startswith("pair_tokens")]


@pytest.mark.parametrize("given", [{"matcher": None}, {"estimator_sees": "patches"}, {"num_camera_tokens": 0}])
def test_parts_that_do_not_go_together_are_refused(small, given):
    matched = {"matcher": small(MATCHERS, "patch_correlation"), "estimator_sees": "matches"}
    with pytest.raises(InputError, match="need a matcher and one camera token or more"):
        small(MODELS, "rayzer", camera_head=small(CAMERA_HEADS, "pi3"), **matched | given)
