"""UP-LVSM and PT-LVSM: what tells the context views apart, and what reaches the cameras and images of targets."""

from dataclasses import replace

import pytest
import torch
from learning import assert_trains, awake
from small import small_component
from torch import Tensor

from openrayzer.evaluation.placements import PLACEMENTS, placement_of, render_targets
from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    CAMERA_HEADS,
    FUSIONS,
    MODELS,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
    InputError,
    Model,
    UnposedInputError,
)
from openrayzer.types import Cameras, Views


def parts(small, **given):
    return {
        "tokenizer": small(TOKENIZERS, "linear"), "position_encoding": small(POSITION_ENCODINGS, "none"),
        "fusion": small(FUSIONS, "first_view_rays"), "renderer": small(RENDERERS, "joint"),
        "attention": ATTENTION_BACKENDS["sdpa"](),
    } | given  # fmt: skip


def uplvsm(small, *, camera_head="absolute_quaternion", **given) -> Model:
    return awake(small(MODELS, "uplvsm", camera_head=small(CAMERA_HEADS, camera_head), **parts(small, **given))).eval()


def ptlvsm(small) -> Model:
    return awake(small(MODELS, "lvsm_decoder_only", **parts(small))).eval()


def moved(views: Views, *, c2w: Tensor | None = None, intrinsics: Tensor | None = None) -> Views:
    """The views with other poses or intrinsics."""
    known = views.cameras
    cameras = Cameras(known.c2w if c2w is None else c2w, known.intrinsics if intrinsics is None else intrinsics)
    return replace(views, cameras=cameras)


def repainted(views: Views, position: int) -> Views:
    images = views.images.clone()
    images[:, position] = torch.rand(images.shape[2:], generator=torch.Generator().manual_seed(1))
    return replace(views, images=images)


def assert_close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", [{}, {"num_latents": 0}, {"qk_norm_eps": None}, {"estimator_depth": 0}])
def test_it_trains_with_the_published_parts(small, views, given):
    model = small(MODELS, "uplvsm", camera_head=small(CAMERA_HEADS, "absolute_quaternion"), **parts(small, **given))
    assert_trains(model, views)


@torch.no_grad()
def test_true_poses_have_no_influence(small, views):
    model = uplvsm(small)
    turned = moved(views, c2w=views.cameras.c2w.flip(1) * 2)
    assert torch.equal(model(views).images, model(turned).images)
    assert torch.equal(model(views).cameras.c2w, model(turned).cameras.c2w)


@torch.no_grad()
def test_only_intrinsics_of_the_first_context_view_and_of_targets_matter(small, views):
    views = replace(views, context=torch.tensor([[0, 2, 4]] * 2), target=torch.tensor([[1, 3]] * 2))
    model, before = uplvsm(small), None
    before = model(views).images
    for position, matters in {0: True, 2: False, 4: False, 1: True, 3: True}.items():
        intrinsics = views.cameras.intrinsics.clone()
        intrinsics[:, position, :2] *= 1.3
        after = model(moved(views, intrinsics=intrinsics)).images
        assert (not torch.allclose(after, before, atol=1e-5)) == matters, position


@torch.no_grad()
def test_the_first_context_view_is_marked_and_the_order_of_the_others_has_no_influence(small, views):
    model = uplvsm(small)
    images = [
        model(replace(views, context=torch.tensor([order] * 2))).images for order in ([0, 2, 4], [0, 4, 2], [2, 0, 4])
    ]
    assert_close(images[1], images[0])
    assert (images[2] - images[0]).abs().max() > 1e-3


@pytest.mark.parametrize("context", [[0, 2, 4], [4, 0, 2]])
@torch.no_grad()
def test_joint_and_context_only_are_the_same(small, views, context):
    """Also with context views that are not in temporal order, and with targets that are context views."""
    views = replace(views, context=torch.tensor([context] * 2), target=torch.tensor([[1, 2, 4]] * 2))
    model = uplvsm(small)
    placed = [PLACEMENTS[name](model, views) for name in ("joint", "context_only")]
    images = [render_targets(model, views, each) for each in placed]
    assert torch.equal(placed[0].target.c2w, placed[1].target.c2w)
    assert torch.equal(images[0], images[1])
    assert_close(images[0], model(views).images)
    for name in ("joint", "context_only"):
        described = placement_of(name, locates_in_scene=model.locates_in_scene)
        assert "are therefore the same" in described.description
        assert not described.mixes_target_pixels
    assert placement_of("joint", locates_in_scene=False) is PLACEMENTS["joint"]


@torch.no_grad()
def test_pixels_of_a_target_change_only_its_own_camera_and_image(small, views):
    model, changed = uplvsm(small), repainted(views, 1)
    before, after = model(views), model(changed)
    assert_close(after.images[:, 1], before.images[:, 1])
    assert_close(after.cameras.c2w[:, [0, 2, 3, 4]], before.cameras.c2w[:, [0, 2, 3, 4]])
    assert (after.cameras.c2w[:, 1] - before.cameras.c2w[:, 1]).abs().max() > 1e-3
    assert (after.images[:, 0] - before.images[:, 0]).abs().max() > 1e-4


@torch.no_grad()
def test_nothing_but_seven_numbers_of_a_target_reaches_its_image(small, views):
    model = uplvsm(small)
    cameras = model.cameras_of(views)
    scene = model.reconstruct(repainted(views, 1).context_images, cameras.select(views.context), views.context)
    assert_close(model.render(scene, cameras.select(views.target)), model(views).images)


@torch.no_grad()
def test_estimated_cameras_are_those_located_in_the_scene_of_all_views(small, views):
    model, known = uplvsm(small), views.cameras.intrinsics
    cameras = model.estimate(views.images, known)
    scene = model.reconstruct(views.images, cameras)
    located = model.locate(scene, views.images, cameras, views.images, intrinsics=known)
    assert_close(located.c2w, cameras.c2w)
    assert torch.equal(cameras.intrinsics, known)
    for call in (
        lambda: model.estimate(views.images),
        lambda: model.locate(scene, views.images, cameras, views.images),
    ):
        with pytest.raises(UnposedInputError, match=r"needs true intrinsics: call estimate\(images, intrinsics\)"):
            call()
    with pytest.raises(UnposedInputError, match="UPLVSM needs intrinsics, and 'attic' has none"):
        model(replace(views, cameras=None))


@pytest.mark.parametrize(("head", "message"), [
    ("rot6d", "Rot6dHead compares views, and UP-LVSM locates each view by itself; take the camera head 'absolute"),
    ("se3", "Se3Head predicts intrinsics, and UP-LVSM is given them; take the camera head 'absolute_quaternion'"),
])  # fmt: skip
def test_heads_that_cannot_work_are_refused(small, head, message):
    with pytest.raises(InputError, match=message):
        uplvsm(small, camera_head=head)


@torch.no_grad()
def test_ptlvsm_uses_the_pose_of_the_first_context_view_and_of_targets_alone(small, views):
    model, before = ptlvsm(small), None
    before = model(views).images
    for position, matters in {0: True, 2: False, 4: False, 1: True, 3: True}.items():
        c2w = views.cameras.c2w.clone()
        c2w[:, position, :3, 3] += 0.5
        after = model(moved(views, c2w=c2w)).images
        assert (not torch.allclose(after, before, atol=1e-5)) == matters, position


@torch.no_grad()
def test_a_scene_with_a_marked_view_cannot_be_extended(small, views):
    model, cameras = ptlvsm(small), views.cameras
    scene = model.reconstruct(views.context_images, cameras.select(views.context))
    with pytest.raises(InputError, match="fusion FirstViewRays marks the first view of a list; reconstruct"):
        model.extend(scene, views.target_images, cameras.select(views.target))


def test_heads_of_absolute_quaternions_put_w_last(tmp_path):
    head = small_component(CAMERA_HEADS, "absolute_quaternion", folder=tmp_path)
    with torch.no_grad():
        for network, bias in ((head.quaternion, [0.0, 0.0, 3.0, 3.0]), (head.centre, [1.0, 2.0, 3.0])):
            network[-1].weight.zero_()
            network[-1].bias.copy_(torch.tensor(bias))
        c2w = head(torch.rand(1, 1, 2, 32), (8, 8)).c2w[0, 0]
    expected = torch.tensor([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])  # a quarter turn about z
    torch.testing.assert_close(c2w, expected, atol=1e-6, rtol=0)
