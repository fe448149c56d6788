"""RayDer: its options, its training on lists of views, its states, and the paths of information."""

from dataclasses import replace

import pytest
import torch
from learning import assert_trains, loss_of
from torch import nn

from openrayzer.interfaces import ATTENTION_BACKENDS, CAMERA_HEADS, MODELS, InputError
from openrayzer.layers.hourglass import Level
from openrayzer.layers.roles import ROLES, RegisterNorm, RoleNorm
from openrayzer.layers.stack import Stack
from openrayzer.types import Views

RUNNABLE = [entry.name for entry in ATTENTION_BACKENDS if not entry.target().refusal(torch.zeros(1, 2, 1, 16))]
LEVELS = (Level(width=16, depth=1, patch=2), Level(width=16, depth=1, patch=2))


def rayder(small, *, camera_head="se3", attention="sdpa", **given):
    """A small RayDer with patches of 8 pixels, like the other small models."""
    return small(
        MODELS,
        "rayder",
        **{
            "levels": LEVELS,
            "camera_head": small(CAMERA_HEADS, camera_head),
            "attention": ATTENTION_BACKENDS[attention](),
            "head_width": 8,
            "state_width": 4,
        }
        | given,
    )


def awake(model):
    """The model with random weights in place of zeros, so that every part matters."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5)
            elif weight.abs().max() < 1e-2:
                weight.copy_(torch.randn(weight.shape, generator=generator))
        model.camera_head.twist.weight.mul_(0.3)
        model.camera_head.log_focal.weight.mul_(0.3)
    return model


@pytest.fixture
def listed(views: Views) -> Views:
    """The clips as lists in random order: each target attends to the views before it."""
    order = torch.tensor([[3, 0, 4, 1, 2], [2, 4, 1, 0, 3]])
    return replace(views, context=order[:, :-1], target=order[:, 1:])


@pytest.mark.parametrize("camera_head", [entry.name for entry in CAMERA_HEADS])
@pytest.mark.parametrize("gains", ["table", "projection"])
def test_it_trains_with_every_camera_head(small, listed, camera_head, gains):
    head = small(CAMERA_HEADS, camera_head)
    if not any(True for _ in head.parameters()):
        pytest.skip(f"{camera_head} learns nothing")
    assert_trains(rayder(small, camera_head=camera_head, gains=gains), listed)


@pytest.mark.parametrize(
    "given",
    [
        {"levels": (), "middle_patch": 8},
        {"levels": (Level(width=8, depth=2, patch=4),)},
        {"targets_see": "all"},
        {"global_positions": "rays"},
        {"state_dropout": 1.0},
        {"state_dropout": 0.0, "window": 3, "window_borders": "swapped", "frequency_spread": "blocked"},
    ],
    ids=str,
)
def test_every_option_trains(small, listed, given):
    assert_trains(rayder(small, **given), listed)


def test_every_weight_changes_the_loss(small, listed):
    model = awake(rayder(small, state_dropout=0.0))
    loss_of(model, listed).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad.abs().max() == 0] == []


def test_it_starts_grey_with_nearly_equal_cameras(small, listed):
    prediction = rayder(small)(listed)
    assert torch.equal(prediction.images, torch.full_like(prediction.images, 0.5))
    eye = torch.eye(4).expand_as(prediction.cameras.c2w)
    torch.testing.assert_close(prediction.cameras.c2w, eye, atol=1e-2, rtol=0)


@pytest.mark.parametrize("every", [1, 2])
def test_activation_checkpointing_changes_no_gradient(small, listed, every):
    gradients = []
    for checkpointing in (0, every):
        model = awake(rayder(small, activation_checkpointing=checkpointing))
        assert {m.checkpoint_every for m in model.modules() if isinstance(m, Stack)} == {checkpointing}
        loss_of(model, listed).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


@pytest.mark.parametrize("attention", RUNNABLE)
def test_every_attention_backend_gives_the_same(small, listed, attention):
    results = []
    for name in ("reference", attention):
        model = awake(rayder(small, attention=name))
        loss = loss_of(model, listed)
        loss.backward()
        results.append([loss, *(weight.grad for weight in model.parameters())])
    for expected, seen in zip(*results, strict=True):
        torch.testing.assert_close(seen, expected, atol=1e-4, rtol=1e-3)


def test_prefix_training_is_separate_calls(small, listed):
    """Target i equals a rendering of the scene of contexts 0 to i, with the state of the target."""
    model = awake(rayder(small, state_dropout=0.0))
    together = model(listed).images
    cameras, states = model.observe(listed.images)
    for place in range(listed.target.shape[1]):
        seen, target = listed.context[:, : place + 1], listed.target[:, place : place + 1]
        scene = model.reconstruct(replace(listed, context=seen).context_images, cameras.select(seen))
        state = torch.take_along_dim(states, target[:, :, None], dim=1)
        alone = model.render(scene, cameras.select(target), state)
        torch.testing.assert_close(alone[:, 0], together[:, place], atol=1e-4, rtol=1e-4)


def test_targets_that_see_all_contexts_train_as_they_are_rendered(small, views):
    model = awake(rayder(small, targets_see="all", state_dropout=1.0))
    torch.testing.assert_close(model.train()(views).images, model.eval()(views).images)


def test_rays_as_positions_depend_on_cameras_and_give_them_gradients(small, listed):
    """The tokens contain no rays here, so cameras can only act through positions."""
    for positions, matter in (("none", False), ("rays", True)):
        model = awake(rayder(small, global_positions=positions, state_dropout=1.0)).eval()
        with torch.no_grad():
            model.backbone.ray_patches.linear.weight.zero_()
        cameras = model.estimate(listed.images)
        c2w = cameras.c2w.detach().requires_grad_()
        cameras = replace(cameras, c2w=c2w)
        scene = model.reconstruct(listed.context_images, cameras.select(listed.context))
        images = model.render(scene, cameras.select(listed.target))
        (gradient,) = torch.autograd.grad(images.square().sum() + 0 * c2w.sum(), c2w)
        assert bool(gradient.abs().sum() > 0) == matter


def test_state_is_dropped_for_some_views_in_training_and_zero_after_it(small, listed):
    model = awake(rayder(small))
    torch.manual_seed(0)
    first, second = model(listed).images, model(listed).images
    assert not torch.allclose(first, second)
    full = awake(rayder(small, state_dropout=0.0))(listed).images
    none = awake(rayder(small, state_dropout=1.0))(listed).images
    kept, dropped = (torch.isclose(first, other, atol=1e-5).all(-1).all(-1).all(-1) for other in (full, none))
    assert (kept | dropped).all()
    assert kept.any()
    assert dropped.any()
    model.eval()
    assert torch.equal(model(listed).images, model(listed).images)


@pytest.mark.parametrize("num_views", [1, 2, 7])
@pytest.mark.parametrize("size", [(16, 16), (24, 8), (8, 72)])
def test_any_number_of_views_and_any_image_size_at_any_call(small, num_views, size):
    model = awake(rayder(small)).eval()
    images = torch.rand(1, num_views, 3, *size, generator=torch.Generator().manual_seed(0))
    cameras = model.estimate(images)
    assert cameras.num_views == num_views
    rendered = model.render(model.reconstruct(images, cameras), cameras)
    assert rendered.shape == images.shape
    assert torch.isfinite(rendered).all()


@pytest.mark.parametrize("camera_head", ["pi3", "se3"])
def test_view_order_does_not_matter_to_cameras_and_states(small, camera_head):
    model = rayder(small, camera_head=camera_head)
    model = awake(model) if camera_head == "se3" else model
    images = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([2, 0, 3, 1])
    (cameras, states), (shuffled, moved) = model.observe(images), model.observe(images[:, order])
    torch.testing.assert_close(shuffled.c2w, cameras.c2w[:, order])
    torch.testing.assert_close(moved, states[:, order], atol=1e-5, rtol=1e-4)


def test_target_pixels_affect_images_by_camera_and_state_alone(small, listed):
    model = awake(rayder(small, state_dropout=0.0))
    cameras, states = model.observe(listed.images)
    model.observe = lambda _: (cameras, states)
    before = model(listed).images
    last = listed.target[:, -1]  # the only view that is never context
    listed.images[torch.arange(2), last] = 0.5
    torch.testing.assert_close(model(listed).images, before)
    listed.images[torch.arange(2), listed.context[:, 1]] = 0.5
    changed = (model(listed).images - before).abs().amax((0, 2, 3, 4)) > 1e-5
    assert changed.tolist() == [False, True, True, True]  # target 0 does not attend to context 1
    model.observe = lambda _: (cameras, states + 1)
    assert not torch.allclose(model(listed).images, before)


def test_it_runs_in_bfloat16_with_cameras_in_float32(small, listed):
    model = awake(rayder(small, state_dropout=0.0))
    exact = model(listed)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(listed)
    assert prediction.cameras.c2w.dtype == prediction.cameras.intrinsics.dtype == torch.float32
    assert prediction.images.dtype == torch.float32
    spread = exact.images.std()
    assert (prediction.images - exact.images).square().mean().sqrt() < 0.25 * spread
    pure = model.to(torch.bfloat16)(listed)
    assert pure.cameras.c2w.dtype == torch.float32
    assert (pure.images.float() - exact.images).square().mean().sqrt() < 0.25 * spread


def test_a_table_of_gains_replaces_projected_ones_exactly(small, listed):
    projected = awake(rayder(small, gains="projection")).eval()
    table = rayder(small).eval()
    weights = projected.state_dict()
    for name, module in projected.named_modules():
        if isinstance(module, RegisterNorm):
            codes = [projected.codes(role, torch.device("cpu")) for role in ROLES]
            weights[f"{name}.patches.weight"] = torch.stack(
                [module.patches.weight @ c.patches[0] for c in codes], dim=1
            )
            weights[f"{name}.register.weight"] = torch.stack([module.register.weight @ c.register[0] for c in codes], 1)
        elif isinstance(module, RoleNorm) and not name.endswith((".patches", ".register")):
            codes = [projected.codes(role, torch.device("cpu")) for role in ROLES]
            weights[f"{name}.weight"] = torch.stack([module.weight @ c.patches[0] for c in codes], dim=1)
    table.load_state_dict({name: value for name, value in weights.items() if not name.startswith("codes.")})
    torch.testing.assert_close(table(listed).images, projected(listed).images, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"state_dropout": 1.5}, "state_dropout must be from 0 to 1, got 1.5"),
        ({"state_width": 0}, "depth and state_width must be 1 or more, got 2 and 0"),
        ({"head_width": 12}, "width 32 must be a multiple of head_width 12"),
        ({"head_width": 4}, "multiple of 8, got 4"),
        ({"levels": (Level(width=12, depth=1, patch=4),)}, "width 12 must be a multiple of head_width 8"),
        ({"window": 6}, "window must be odd"),
        ({"activation_checkpointing": -1}, "activation_checkpointing must be 0"),
    ],
)
def test_values_out_of_range_are_refused(small, given, message):
    with pytest.raises(ValueError, match=message):
        rayder(small, **given)


def test_a_head_of_another_width_is_refused_by_name(small):
    with pytest.raises(InputError, match="Se3Head was built with width 16, the model has 32"):
        small(
            MODELS, "rayder", levels=LEVELS, camera_head=small(CAMERA_HEADS, "se3", width=16),
            attention=ATTENTION_BACKENDS["sdpa"](), head_width=8,
        )  # fmt: skip


def test_image_sizes_that_patches_do_not_divide_are_refused(small):
    model = rayder(small)
    with pytest.raises(InputError, match=r"17 x 24 pixels .* multiples of 8, e.g. 16 24"):
        model.estimate(torch.rand(1, 2, 3, 17, 24))


def test_training_on_views_of_another_sampler_is_refused_by_name(small, views, listed):
    model = rayder(small)
    with pytest.raises(InputError, match=r"there are 3 contexts and 2 targets; .* view sampler 'autoregressive'"):
        model(views)
    wrong = replace(listed, target=listed.target.roll(1, dims=0), context=listed.context)
    with pytest.raises(InputError, match=r"target \d of scene 'attic' attends to contexts .* 'autoregressive'"):
        model.check_roles(wrong.context, wrong.target, wrong.scenes)
    model.eval()
    model(views)


def test_published_focal_unit_is_half_the_span_between_outer_pixel_centres(small):
    published = {"max_log_focal": None, "focal_unit": "half_span", "focal_offset": 1e-6}
    head = small(CAMERA_HEADS, "se3", **published)
    fx, fy = head(torch.randn(1, 2, 1, 32), (48, 80)).intrinsics[0, 0, :2].tolist()
    assert fx * 80 == pytest.approx((1 + 1e-6) * 47 / 2)
    assert fy * 48 == pytest.approx((1 + 1e-6) * 47 / 2)
    nn.init.constant_(head.log_focal.bias, 10.0)
    far = head(torch.randn(1, 2, 1, 32), (48, 80)).intrinsics[0, 0, 0].item()
    assert far == pytest.approx(torch.tensor(10.0).exp().item() * 47 / 2 / 80, rel=1e-5)
    with pytest.raises(ValueError, match="above 0"):
        small(CAMERA_HEADS, "se3", max_log_focal=0.0)
