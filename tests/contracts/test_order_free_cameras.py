"""What a model promises that declares ``order_free_cameras``: its cameras come from the images, not from the list."""

import copy

import pytest
import torch
from learning import accepted, loss_of
from painted_room import painted_rooms
from small import names

from openrayzer.evaluation.placements import PLACEMENTS
from openrayzer.evaluation.trials.sanity import SanityResult, sanity_battery
from openrayzer.geometry.poses import invert
from openrayzer.interfaces import MODELS, Model
from openrayzer.types import Cameras, Views

NAMES = [name for name in names(MODELS) if MODELS[name].order_free_cameras]
pytestmark = pytest.mark.parametrize("name", NAMES, scope="module")
STEPS = 3


@pytest.fixture(scope="module")
def clips() -> Views:
    """Two clips of six views, 40 x 48 pixels."""
    return painted_rooms(2, image_size=(40, 48))


@pytest.fixture(scope="module")
def trained(small, name: str, clips: Views) -> Model:
    """The small model after a few steps on the clips, in evaluation mode."""
    model = small(MODELS, name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        loss_of(model, accepted(model, clips)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def battery(trained: Model, clips: Views) -> list[SanityResult]:
    """The results of the sanity battery on the trained model."""
    return sanity_battery(trained, clips, placement=PLACEMENTS["joint"])


def relative_poses(cameras: Cameras) -> torch.Tensor:
    """Poses in the frame of the first view, so that the choice of the world frame does not matter."""
    return invert(cameras.c2w[:, :1].double()) @ cameras.c2w.double()


def changed_weights(model: Model, seed: int) -> Model:
    """A copy of the model in which every weight has moved by a third of the mean size of its tensor."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            size = weight.abs().mean().clamp(min=0.01)
            weight.add_(size / 3 * torch.randn(weight.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("seed", [0, 1])
@torch.no_grad()
def test_views_in_another_order_keep_their_cameras_whatever_the_weights(small, name, clips, seed):
    model = changed_weights(small(MODELS, name), seed)
    order = torch.tensor([[3, 0, 5, 4, 1, 2], [2, 4, 1, 0, 3, 5]])
    images = torch.stack([clip[places] for clip, places in zip(clips.images, order, strict=True)])
    intrinsics = clips.cameras.select(order).intrinsics if model.needs_intrinsics else None
    before = model.estimate(clips.images, clips.cameras.intrinsics if model.needs_intrinsics else None)
    after = model.estimate(images, intrinsics).select(order.argsort(dim=1))
    poses = relative_poses(before)
    assert (poses[..., :3, 3].norm(dim=-1).amax(dim=1) > 1e-2).all(), "the cameras stand still, so nothing is tested"
    torch.testing.assert_close(relative_poses(after), poses, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.intrinsics, before.intrinsics, atol=1e-4, rtol=0)


@pytest.mark.parametrize("check", ["shuffled_order", "repeated_views", "dropped_views"])
def test_a_trained_toy_passes_the_sanity_battery(battery: list[SanityResult], check: str):
    results = [result for result in battery if result.check == check]
    assert len(results) == 2
    assert [result for result in results if not result.passed] == []


def test_a_trained_toy_uses_its_cameras(battery: list[SanityResult]):
    """Otherwise the other checks of the battery would show nothing."""
    assert all(result.passed for result in battery if result.check == "nearest_context_pose")
