"""A video costs one estimate, one reconstruction and at most one pass of the renderer per frame."""

import pytest
import torch

from openrayzer.geometry.paths import interpolate_path
from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import InputError, UnposedInputError
from openrayzer.video import place, render_frames, render_path

IMAGES = torch.rand(1, 3, 3, 8, 12)


def test_sixty_frames_cost_one_estimate_one_reconstruction_and_at_most_sixty_passes(counting):
    frames = list(render_path(counting, IMAGES, lambda views: interpolate_path(views, 60)))
    assert len(frames) == 60
    assert frames[0].shape == (3, 8, 12)
    assert counting.calls.count("estimate") == counting.calls.count("reconstruct") == 1
    assert counting.calls.count("render") <= 60


@pytest.mark.parametrize("batch", [1, 7, 60, 100])
def test_frames_do_not_depend_on_the_batch_size(counting, batch):
    def path(views):
        return interpolate_path(views, 60)

    expected = torch.stack(list(render_path(counting, IMAGES, path)))
    counting.calls.clear()
    assert torch.equal(torch.stack(list(render_path(counting, IMAGES, path, batch=batch))), expected)
    tried = batch > 1  # a single frame first, to measure its memory
    assert counting.calls == ["estimate", "reconstruct", *["render"] * (tried + -(-60 // batch))]


def test_frames_are_rendered_when_they_are_needed(counting):
    frames = render_path(counting, IMAGES, lambda views: interpolate_path(views, 60), batch=5)
    next(frames)
    assert counting.calls.count("render") == 2  # the first one measures the memory of a frame
    assert torch.is_inference_mode_enabled() is False


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_fewer_frames_are_rendered_together_if_memory_does_not_suffice(counting, most):
    """The model fails like a GPU if more frames than ``most`` are rendered together."""

    def path(views):
        return interpolate_path(views, 20)

    expected = torch.stack(list(render_path(counting, IMAGES, path, batch=20)))
    render, sizes = counting.render, []

    def limited(scene, cameras):
        if cameras.num_views > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(cameras.num_views)
        return render(scene, cameras)

    counting.render = limited
    assert torch.equal(torch.stack(list(render_path(counting, IMAGES, path, batch=20))), expected)
    fitting = next(size for size in (20, 10, 5, 2, 1) if size <= most)
    assert sizes == [1, *[fitting] * (20 // fitting)]


def test_a_posed_model_gets_normalised_true_cameras_and_estimates_nothing(counting, make_cameras):
    counting.posed = True
    known = make_cameras(3)
    placed = place(counting, IMAGES, known=known, scene_scale=1.35)
    assert torch.equal(placed.cameras.c2w, normalise_poses(known.c2w, scene_scale=1.35))
    assert torch.equal(place(counting, IMAGES, known=known, scene_scale=None).cameras.c2w, known.c2w)
    assert "estimate" not in counting.calls


def test_a_model_that_needs_intrinsics_gets_the_true_ones(counting, make_cameras):
    counting.needs_intrinsics = True
    place(counting, IMAGES, known=make_cameras(3))
    assert torch.equal(counting.given[0], make_cameras(3).intrinsics)


@pytest.mark.parametrize(("attribute", "needs"), [("posed", "camera poses"), ("needs_intrinsics", "intrinsics")])
def test_a_model_that_needs_cameras_is_not_run_without_them(counting, attribute, needs):
    setattr(counting, attribute, True)
    with pytest.raises(UnposedInputError, match=f"CountingModel needs {needs}"):
        place(counting, IMAGES)
    assert counting.calls == []


@pytest.mark.parametrize("method", ["estimate", "render"])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_an_out_of_memory_error_becomes_advice(counting, monkeypatch, method, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(counting, method, fail)
    advice = {
        "estimate": "3 views of 12 x 8 pixels; use fewer",
        "render": "a single view: frames have 12 x 8 pixels; use smaller images, or a scene of fewer views",
    }[method]
    with pytest.raises(InputError, match=f"not enough memory for {advice}"):
        list(render_path(counting, IMAGES, lambda views: views, batch=4))


def test_cameras_that_are_not_finite_are_an_error(counting, monkeypatch, make_cameras):
    cameras = make_cameras(3)
    cameras.c2w[0, 1, 0, 3] = torch.nan
    monkeypatch.setattr(counting, "estimate", lambda _: cameras)
    with pytest.raises(InputError, match="cameras are not finite"):
        place(counting, IMAGES)


def test_other_errors_of_the_model_are_not_changed(counting, make_cameras, monkeypatch):
    scene = place(counting, IMAGES).scene
    with pytest.raises(ValueError, match="a batch must have 1 view or more, got 0"):
        list(render_frames(counting, scene, make_cameras(2), batch=0))
    monkeypatch.setattr(counting, "render", lambda *_: torch.zeros(2, 3) @ torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        list(render_frames(counting, scene, make_cameras(2)))
