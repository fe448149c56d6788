"""The pixels that influence each camera, for every kind of model, and placements of a perfect estimator."""

from dataclasses import replace

import pytest
import torch
from doubles import BrokenModel, PerfectModel, clips, read
from small_models import ESTIMATORS, lvsm, rayzer
from torch import Tensor

from openrayzer.evaluation.placements import PLACEMENTS, PlacedViews, placements_for, render_targets
from openrayzer.evaluation.trials import sanity
from openrayzer.evaluation.trials.sanity import SanityResult
from openrayzer.evaluation.trials.transfer import transferred_views
from openrayzer.geometry.similarity import Similarity, similarity_between
from openrayzer.interfaces import InputError, UnposedInputError
from openrayzer.types import Cameras, Views

GIVEN, JOINT, CONTEXT_ONLY = PLACEMENTS["given_poses"], PLACEMENTS["joint"], PLACEMENTS["context_only"]
FRAMES = [[0, 2, 3, 5, 8, 9]]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def two_clips(context: list[int] = [0, 2, 5], target: list[int] = [1, 3, 4]) -> Views:  # noqa: B006
    return clips(FRAMES * 2, [context] * 2, [target] * 2)


def repainted(views: Views, row: int, position: int) -> Views:
    """The clips with the pixels of one view changed."""
    images = views.images.clone()
    images[row, position] = torch.rand(images.shape[2:], generator=torch.Generator().manual_seed(1))
    return replace(views, images=images)


def assert_all_equal(first: PlacedViews, second: PlacedViews, *, but: tuple[int, int] | None = None):
    """All cameras are equal bit for bit, except the camera of one target."""
    for name in ("c2w", "intrinsics"):
        assert torch.equal(getattr(first.context, name), getattr(second.context, name))
        same = (getattr(first.target, name) == getattr(second.target, name)).flatten(2).all(dim=-1)
        if but is not None:
            same[but] = True
        assert same.all()
    assert torch.equal(first.index, second.index)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_pixels_of_a_target_change_only_its_own_camera(kind):
    model, views = ESTIMATORS[kind](), two_clips()
    before = CONTEXT_ONLY(model, views)
    for number, position in enumerate(views.target[1].tolist()):
        changed = repainted(views, 1, position)
        after = CONTEXT_ONLY(model, changed)
        assert_all_equal(before, after, but=(1, number))
        assert not torch.equal(before.target.c2w[1, number], after.target.c2w[1, number])  # the change matters
        images = [render_targets(model, clip, placed) for clip, placed in ((views, before), (changed, after))]
        same = (images[0] == images[1]).flatten(2).all(dim=-1)
        same[1, number] = True
        assert same.all()


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_with_joint_placement_they_change_the_context_cameras(kind):
    model, views = ESTIMATORS[kind](), two_clips()
    before, after = JOINT(model, views), JOINT(model, repainted(views, 1, 1))
    assert not torch.equal(before.context.c2w[1], after.context.c2w[1])
    assert torch.equal(before.context.c2w[0], after.context.c2w[0])


def test_joint_cameras_are_those_of_the_models_forward():
    model, views = rayzer(), two_clips()
    placed, cameras = JOINT(model, views), model(views).cameras
    torch.testing.assert_close(placed.context.c2w, cameras.select(views.context).c2w)
    torch.testing.assert_close(placed.target.c2w, cameras.select(views.target).c2w)
    torch.testing.assert_close(render_targets(model, views, placed), model(views).images)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("context", [[2], [0, 5], [0, 1, 2, 4, 5]])
def test_any_number_of_contexts(kind, context):
    model, views = ESTIMATORS[kind](), two_clips(context, [3])
    placed = CONTEXT_ONLY(model, views)
    assert (placed.context.c2w.shape, placed.target.c2w.shape) == ((2, len(context), 4, 4), (2, 1, 4, 4))
    assert placed.target.c2w.isfinite().all()
    torch.testing.assert_close(torch.linalg.det(placed.target.c2w), torch.ones(2, 1))
    known = None if not model.needs_intrinsics else views.cameras.select(views.context).intrinsics
    alone = model.estimate(views.context_images, known)
    torch.testing.assert_close(placed.context.c2w, alone.c2w)
    torch.testing.assert_close(placed.context.intrinsics, alone.intrinsics)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_target_is_located_in_its_order_among_the_contexts(kind):
    # By hand: the middle view of five, moved by the similarity between the context cameras.
    model, views = ESTIMATORS[kind](), two_clips([0, 1, 4, 5], [3])
    placed = CONTEXT_ONLY(model, views)
    order = torch.tensor([0, 1, 3, 4, 5])
    known = views.cameras.intrinsics[:, order] if model.needs_intrinsics else None
    together = model.estimate(views.images[:, order], known)
    contexts = together.c2w[:, [0, 1, 3, 4]]
    back = similarity_between(contexts, placed.context.c2w).poses(together.c2w)
    torch.testing.assert_close(placed.target.c2w[:, 0], back[:, 2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(placed.target.intrinsics[:, 0], together.intrinsics[:, 2])


@pytest.mark.parametrize("kind", ["rayzer rot6d", "rayder"])
def test_the_order_in_which_roles_are_listed_changes_no_camera(kind):
    model, views = ESTIMATORS[kind](), two_clips([0, 2, 5], [1, 3, 4])
    placed = CONTEXT_ONLY(model, views)
    other = CONTEXT_ONLY(model, two_clips([5, 0, 2], [4, 1, 3]))
    torch.testing.assert_close(other.context.c2w, placed.context.c2w[:, [2, 0, 1]])
    torch.testing.assert_close(other.target.c2w, placed.target.c2w[:, [2, 0, 1]], atol=1e-5, rtol=1e-4)
    assert placed.index[0].tolist() == [0, 1, 2]
    assert other.index[0].tolist() == [2, 0, 1]


def test_a_clip_in_shuffled_order_keeps_it():
    # Models count positions on the view axis; frame numbers do not matter.
    model = rayzer()
    views = clips([[9, 0, 5, 2, 8, 3]] * 2, [[0, 2, 5]] * 2, [[1, 3, 4]] * 2)
    renumbered = replace(views, frames=torch.tensor([[0, 1, 2, 3, 4, 5]] * 2))
    assert_all_equal(CONTEXT_ONLY(model, views), CONTEXT_ONLY(model, renumbered))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_target_that_is_a_context_has_its_camera(kind):
    model = ESTIMATORS[kind]()
    views = clips(FRAMES * 2, [[0, 2, 5], [1, 3, 4]], [[2, 1, 5], [0, 2, 4]])
    placed = CONTEXT_ONLY(model, views)
    for row, target, context in ((0, 0, 1), (0, 2, 2), (1, 2, 2)):
        assert torch.equal(placed.target.c2w[row, target], placed.context.c2w[row, context])
        assert torch.equal(placed.target.intrinsics[row, target], placed.context.intrinsics[row, context])
    others = CONTEXT_ONLY(model, replace(views, target=torch.tensor([[1, 3], [0, 2]])))
    torch.testing.assert_close(placed.target.c2w[0, 1], others.target.c2w[0, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(placed.target.c2w[1, :2], others.target.c2w[1], atol=1e-5, rtol=1e-4)


def test_targets_that_are_all_contexts_need_nothing_else():
    views = two_clips([0, 2, 5], [5, 0])
    placed = CONTEXT_ONLY(rayzer(), views)
    assert torch.equal(placed.target.c2w, placed.context.c2w[:, [2, 0]])


@pytest.mark.parametrize("kind", ["rayzer rot6d", "rayzer given intrinsics", "rayder"])
def test_clips_of_a_batch_do_not_mix(kind):
    model, views = ESTIMATORS[kind](), two_clips()
    alone = CONTEXT_ONLY(model, _one(views, 1))
    together = CONTEXT_ONLY(model, views)
    for part in ("context", "target"):
        for name in ("c2w", "intrinsics"):
            values = [getattr(getattr(placed, part), name) for placed in (alone, together)]
            torch.testing.assert_close(values[0][0], values[1][1], atol=1e-5, rtol=1e-4)


def test_no_more_images_go_through_the_estimator_at_once_than_a_batch_has(monkeypatch):
    model, views, seen = PerfectModel(), two_clips([0, 2, 5], [1, 3, 4]), []

    def counted(images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        seen.append(images.shape[0] * images.shape[1])
        return PerfectModel.estimate(model, images, intrinsics)

    monkeypatch.setattr(model, "estimate", counted)
    CONTEXT_ONLY(model, views)
    assert max(seen) <= 12
    assert sum(seen) == 2 * 3 + 6 * 4


@pytest.mark.parametrize("target", [[1], [1, 3, 4]])
@pytest.mark.parametrize("context", [[0, 5], [0, 2, 5]])
def test_with_perfect_cameras_the_answer_is_that_of_the_true_ones(context, target):
    model, views = PerfectModel(), two_clips(context, target)
    placed = CONTEXT_ONLY(model, views)
    true = views.cameras.c2w.double()
    context_poses, target_poses = true[:, context], true[:, target]
    back = similarity_between(placed.context.c2w, context_poses)
    assert not torch.allclose(placed.context.c2w, context_poses, atol=0.1)  # the estimate has another frame
    torch.testing.assert_close(back.poses(placed.target.c2w), target_poses, atol=1e-4, rtol=0)
    torch.testing.assert_close(render_targets(model, views, placed), views.target_images, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        render_targets(model, views, JOINT(model, views)), views.target_images, atol=1e-4, rtol=0
    )


def test_with_one_context_a_perfect_rotation_is_kept():
    model, views = PerfectModel(), two_clips([0], [3])
    placed, true = CONTEXT_ONLY(model, views), views.cameras.c2w.double()
    relative = placed.context.c2w[:, 0, :3, :3].mT @ placed.target.c2w[:, 0, :3, :3]
    torch.testing.assert_close(relative, true[:, 0, :3, :3].mT @ true[:, 3, :3, :3], atol=1e-4, rtol=0)


@pytest.mark.parametrize("placement", [JOINT, CONTEXT_ONLY])
def test_cameras_that_are_not_finite_stay_in_their_clip(placement):
    views = two_clips()
    placed = placement(BrokenModel(), views)
    for cameras in (placed.context, placed.target):
        assert cameras.c2w[1, ..., :3, :].isnan().all()
        assert cameras.intrinsics[1].isnan().all()
    whole = placement(PerfectModel(), views)
    assert torch.equal(placed.target.c2w[0], whole.target.c2w[0])


def test_a_posed_model_gets_the_true_cameras():
    model, views = lvsm(), two_clips()
    placed = GIVEN(model, views)
    assert torch.equal(placed.context.c2w, views.cameras.c2w[:, [0, 2, 5]])
    assert torch.equal(placed.target.intrinsics, views.cameras.intrinsics[:, [1, 3, 4]])
    torch.testing.assert_close(render_targets(model, views, placed), model(views).images)
    assert_all_equal(placed, GIVEN(model, repainted(views, 1, 1)))


@pytest.mark.parametrize(("model", "cameras", "names"), [
    (lvsm, True, ("given_poses",)), (lvsm, False, ()),
    (rayzer, True, ("joint", "context_only")), (rayzer, False, ("joint", "context_only")),
    (ESTIMATORS["rayzer given intrinsics"], True, ("joint", "context_only")),
    (ESTIMATORS["rayzer given intrinsics"], False, ()),
])  # fmt: skip
def test_which_placements_apply(model, cameras, names):
    assert placements_for(model(), views_have_cameras=cameras) == names


@pytest.mark.parametrize(("name", "model", "message"), [
    ("given_poses", rayzer, r"'given_poses' does not fit RayZer, which estimates.*take 'joint', 'context_only'"),
    ("joint", lvsm, "'joint' does not fit LVSMEncoderDecoder, which is given camera poses; take 'given_poses'"),
    ("context_only", lvsm, "'context_only' does not fit LVSMEncoderDecoder"),
])  # fmt: skip
def test_a_placement_that_does_not_fit_is_named(name, model, message):
    with pytest.raises(InputError, match=message):
        PLACEMENTS[name](model(), two_clips())


@pytest.mark.parametrize(("name", "model"), [
    ("given_poses", lvsm), ("joint", ESTIMATORS["rayzer given intrinsics"]),
    ("context_only", ESTIMATORS["rayzer given intrinsics"]),
])  # fmt: skip
def test_missing_cameras_are_an_error(name, model):
    with pytest.raises(UnposedInputError, match=r"needs .* and 'world 0' has none"):
        PLACEMENTS[name](model(), replace(two_clips(), cameras=None))


def test_placements_declare_their_use_of_target_pixels():
    said = {name: (placed.uses_target_pixels, placed.mixes_target_pixels) for name, placed in PLACEMENTS.items()}
    assert said == {"given_poses": (False, False), "joint": (True, True), "context_only": (True, False)}
    assert all(placement.name == name and placement.description for name, placement in PLACEMENTS.items())


def _one(views: Views, row: int) -> Views:
    tensors = {name: getattr(views, name)[row : row + 1] for name in ("images", "frames", "context", "target")}
    assert views.cameras is not None
    cameras = Cameras(views.cameras.c2w[row : row + 1], views.cameras.intrinsics[row : row + 1])
    return replace(views, scenes=views.scenes[row : row + 1], cameras=cameras, **tensors)


class LocatingModel(PerfectModel):
    """A model that finds the camera of a target from the scene and the target's image, without estimating it."""

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        assert images.shape[1] == 3, "only the three context views are estimated"
        return super().estimate(images, intrinsics)

    def locate(self, scene, images, cameras, context_images, *, intrinsics=None, index=None, context_index=None):
        self.seen = [*getattr(self, "seen", []), (scene.batch_size, *images.shape[:2], context_images.shape[1])]
        numbers = scene.tokens[:, 0]
        back = Similarity(numbers[:, :9].unflatten(1, (3, 3)), numbers[:, 9:12], numbers[:, 12])
        inverse = similarity_between(back.poses(cameras.c2w.double()), cameras.c2w.double())
        c2w = inverse.poses(read(images)[0]).to(cameras.c2w.dtype)
        return Cameras(c2w, cameras.intrinsics[:, :1].expand(-1, images.shape[1], -1))


def test_the_context_only_placement_calls_locate_of_the_model():
    model, views = LocatingModel(), two_clips([0, 2, 5], [1, 3, 4])
    placed = CONTEXT_ONLY(model, views)
    assert sum(pairs for _, pairs, _, _ in model.seen) == 6
    assert all(seen == (seen[0], seen[0], 1, 3) for seen in model.seen)
    default = CONTEXT_ONLY(PerfectModel(), views)
    torch.testing.assert_close(placed.target.c2w, default.target.c2w, atol=1e-4, rtol=0)
    torch.testing.assert_close(render_targets(model, views, placed), views.target_images, atol=1e-4, rtol=0)


def test_transfer_and_sanity_battery_call_locate_of_the_model():
    views = two_clips([0, 2, 5], [1, 3, 4])
    model = LocatingModel()
    transferred_views(model, views, views, placement=CONTEXT_ONLY)
    assert sum(pairs for _, pairs, _, _ in model.seen) == 12
    model = LocatingModel()
    checks = {"shuffled_order", "colour_change"}
    results = [result for result in _battery(model, views) if result.check in checks]
    assert len(results) == 4
    assert all(result.passed for result in results)


def test_a_scene_is_reconstructed_once_for_locating_and_rendering(monkeypatch):
    model, views, made = PerfectModel(), two_clips(), []
    reconstruct = model.reconstruct

    def counted(*arguments):
        made.append(1)
        return reconstruct(*arguments)

    monkeypatch.setattr(model, "reconstruct", counted)
    render_targets(model, views, CONTEXT_ONLY(model, views))
    assert len(made) == 1


def _battery(model: LocatingModel, views: Views) -> list[SanityResult]:
    """The sanity battery without the check that estimates more than three views."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sanity.CHECKS, "repeated_views")
        return sanity.sanity_battery(model, views, placement=CONTEXT_ONLY)
