"""What every model promises, including a model whose scenes are points instead of tokens."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learning import accepted, assert_trains, awake
from small import names

from openrayzer.interfaces import MODELS, PLUGIN_GROUP, InputError, Model, UnposedInputError
from openrayzer.types import Cameras, Scene, Views, tensors_of
from registry.plugins import load_plugin

load_plugin("points.py", group=PLUGIN_GROUP, root=Path(__file__).parents[1] / "models")

pytestmark = pytest.mark.parametrize("name", names(MODELS))


@pytest.fixture
def model(small, name: str) -> Model:
    """The model with random weights, in evaluation mode."""
    return awake(small(MODELS, name)).eval()


def reconstructed(model: Model, views: Views) -> tuple[Scene, Cameras]:
    """The scene of the context views, and the cameras of all views."""
    cameras = model.cameras_of(views)
    return model.reconstruct(views.context_images, cameras.select(views.context), views.context), cameras


def assert_same(seen: object, wanted: object) -> None:
    for one, other in zip(tensors_of(seen), tensors_of(wanted), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_it_trains(small, name, views):
    model = small(MODELS, name)
    # The images show no scene, so that longer steps lead a solver, also one that teaches, to other local minima.
    assert_trains(model, accepted(model, views), rate=0.002 if name in ("rayzer_geometric", "taught") else 0.2)


@torch.no_grad()
def test_forward_is_the_composition_of_the_three_maps(model, views):
    prediction, (scene, cameras) = model(views), reconstructed(model, views)
    assert_same(prediction.cameras, cameras)
    assert prediction.images.shape == views.target_images.shape
    assert_same(prediction.images, model.render(scene, cameras.select(views.target)))
    assert_same(prediction.extra_images, model.render_maps(scene, cameras.select(views.target)))


@torch.no_grad()
def test_maps_have_1_or_3_channels_and_the_size_of_the_images(model, views):
    for title, values in model(views).extra_images.items():
        b, v, channels, *size = values.shape
        assert (b, v, channels in (1, 3), *size) == (2, 2, True, 16, 24), title
        assert torch.isfinite(values).all(), title


def test_extra_losses_are_finite_numbers_with_gradients(model, views):
    for title, loss in model.train()(accepted(model, views)).extra_losses.items():
        assert loss.shape == (), title
        assert torch.isfinite(loss), title
        assert loss.requires_grad, title


@torch.no_grad()
def test_cameras_of_a_model_without_poses_come_from_the_images_alone(model, views):
    unposed = replace(views, cameras=None)
    if model.posed:
        with pytest.raises(UnposedInputError, match=r"needs camera poses, and 'attic' has none"):
            model(unposed)
        with pytest.raises(UnposedInputError):
            model.estimate(views.images)
    elif not model.needs_intrinsics:
        assert_same(model(unposed).cameras, model.estimate(views.images))
        assert model.estimate(views.images).num_views == views.images.shape[1]


@torch.no_grad()
def test_given_intrinsics_take_the_place_of_estimated_ones(model, views):
    if not model.posed:
        given = views.cameras.intrinsics
        assert torch.equal(model.estimate(views.images, given).intrinsics, given)


@pytest.mark.parametrize(("size", "num_views"), [((16, 24), 1), ((32, 16), 2), ((16, 16), 7)])
@torch.no_grad()
def test_any_number_of_views_and_any_size_that_check_size_accepts(model, views, size, num_views):
    model.check_size(size)
    images = torch.rand(1, num_views, 3, *size, generator=torch.Generator().manual_seed(0))
    cameras = Cameras(views.cameras.c2w[:1, [0] * num_views], views.cameras.intrinsics[:1, [0] * num_views])
    scene = model.reconstruct(images, cameras)
    assert scene.image_size == size
    rendered = model.render(scene, cameras)
    assert rendered.shape == images.shape
    assert torch.isfinite(rendered).all()


@torch.no_grad()
def test_rendered_views_and_batch_elements_never_see_each_other(model, views):
    scene, cameras = reconstructed(model, views)
    together = model.render(scene, cameras)
    one = cameras.select(torch.tensor([[3], [3]]))
    torch.testing.assert_close(model.render(scene, one), together[:, 3:4], atol=1e-5, rtol=1e-4)
    second = torch.tensor([1])
    of_second = Cameras(cameras.c2w[second], cameras.intrinsics[second])
    torch.testing.assert_close(model.render(scene.select(second), of_second), together[1:], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_scenes_can_be_selected_from_a_batch(model, views):
    scene, cameras = reconstructed(model, views)
    assert (scene.image_size, scene.batch_size, scene.device.type) == ((16, 24), 2, "cpu")
    order = torch.tensor([1, 0, 1])
    chosen = scene.select(order)
    assert (chosen.batch_size, chosen.image_size) == (3, (16, 24))
    cameras = Cameras(cameras.c2w[order], cameras.intrinsics[order])
    assert_same(model.render(chosen, cameras)[0], model.render(chosen, cameras)[2])


def test_a_detached_scene_gives_the_same_images_and_no_gradient(model, views):
    scene, cameras = reconstructed(model, views)
    detached = scene.detach()
    assert not any(tensor.requires_grad for tensor in tensors_of(detached))
    assert_same(model.render(detached, cameras), model.render(scene, cameras))


@torch.no_grad()
def test_a_prepared_scene_gives_the_same_images(model, views):
    scene, cameras = reconstructed(model, views)
    assert_same(model.render(model.prepare(scene), cameras), model.render(scene, cameras))


@torch.no_grad()
def test_an_extended_scene_is_that_of_all_views_or_is_refused(model, views):
    cameras = views.cameras
    first, last = (Cameras(cameras.c2w[:, part], cameras.intrinsics[:, part]) for part in (slice(3), slice(3, 5)))
    scene = model.reconstruct(views.images[:, :3], first)
    if type(model).extend is Model.extend:
        with pytest.raises(InputError, match="anew"):
            model.extend(scene, views.images[:, 3:], last)
        return
    with suppress(InputError):  # some models can be extended with some options only
        grown = model.extend(scene, views.images[:, 3:], last)
        assert_same(model.render(grown, cameras), model.render(model.reconstruct(views.images, cameras), cameras))


@torch.no_grad()
def test_located_cameras_do_not_depend_on_each_other(model, views):
    if model.posed:
        return
    scene, cameras = reconstructed(model, views)
    given = {"cameras": cameras.select(views.context), "context_images": views.context_images,
             "context_index": views.context}  # fmt: skip
    intrinsics = views.cameras.select(views.target).intrinsics if model.needs_intrinsics else None
    both = model.locate(scene, views.target_images, **given, intrinsics=intrinsics, index=views.target)
    assert both.c2w.shape == (2, 2, 4, 4)
    for place in range(2):
        part = slice(place, place + 1)
        alone = model.locate(
            scene, views.target_images[:, part], **given, index=views.target[:, part],
            intrinsics=None if intrinsics is None else intrinsics[:, part],
        )  # fmt: skip
        torch.testing.assert_close(alone.c2w, both.c2w[:, part], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_cameras_and_images_are_float32_under_autocast(small, name, views):
    model = small(MODELS, name).eval()
    exact = model(views)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(views)
    assert {tensor.dtype for tensor in tensors_of(prediction)} == {torch.float32}
    torch.testing.assert_close(prediction.images, exact.images, atol=0.05, rtol=0)


def test_it_can_be_planned_without_memory(small, name):
    with torch.device("meta"):
        model = small(MODELS, name)
    assert all(weight.is_meta for weight in model.parameters())
