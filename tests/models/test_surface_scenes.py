"""Geometric RayZer with scenes of Gaussians: depths from the solver, training, and a refusal."""

import pytest
import torch
from learning import assert_trains
from painted_room import painted_rooms

from openrayzer.interfaces import MODELS, RENDERERS, GaussianScene, InputError, Model
from openrayzer.types import Cameras, Views


@pytest.fixture(scope="module")
def views() -> Views:
    return painted_rooms(1, image_size=(32, 32))


def model_of(small) -> Model:
    return small(MODELS, "rayzer_geometric", renderer=small(RENDERERS, "surface_gaussians"))


@torch.no_grad()
def test_a_scene_consists_of_gaussians_at_the_depths_that_the_solver_finds_with_the_given_cameras(small, views):
    model = model_of(small).eval()
    model.renderer.log_sharpness.fill_(-20.0)  # the sweep keeps the depths of the solver
    cameras = views.cameras.select(views.context)
    c2w = cameras.c2w.clone()
    c2w[..., :3, 3] /= 2
    cameras = Cameras(c2w, cameras.intrinsics)
    scene = model.reconstruct(views.context_images, cameras)
    assert isinstance(scene, GaussianScene)
    assert scene.gaussians.num_gaussians == 3 * 32 * 32
    walls = torch.tensor([1.0, 0.6, 1.0])  # half sides of the room in units of 2 metres
    assert (scene.gaussians.means.abs() / walls).amax(-1).log().abs().median() < 0.06
    assert model.prepare(scene) is scene
    assert set(model.render_maps(scene, cameras)) == {"depth", "opacity"}
    with pytest.raises(InputError, match="reconstruct the scene anew from all views"):
        model.extend(scene, views.context_images, cameras)


def test_it_trains(small, views):
    assert_trains(model_of(small), views, rate=0.002)
