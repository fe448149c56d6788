"""RayZer and LVSM: any two of their parts train together; a combination without a meaning is refused by name."""

from itertools import combinations, product

import pytest
import torch
from learning import assert_trains, loss_of
from small import names

from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    ATTENTION_LAYOUTS,
    CAMERA_HEADS,
    FUSIONS,
    MODELS,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
    InputError,
    TokenRenderer,
    UnposedInputError,
)
from openrayzer.layers.stack import Stack
from openrayzer.types import Cameras, Views


def parts(small, *, position_encoding="rope2d", fusion="pixel", renderer="joint", **given):
    """Arguments that all these models take."""
    return {
        "position_encoding": small(POSITION_ENCODINGS, position_encoding),
        "fusion": small(FUSIONS, fusion),
        "renderer": small(RENDERERS, renderer),
        "attention": ATTENTION_BACKENDS["auto"](),
    } | given


def rayzer(small, *, layout="vggt_alternating", camera_head="rot6d", tokenizer=None, **given):
    return small(
        MODELS,
        "rayzer",
        tokenizer=tokenizer or small(TOKENIZERS, "linear"),
        layout=small(ATTENTION_LAYOUTS, layout),
        camera_head=small(CAMERA_HEADS, camera_head),
        **parts(small, **given),
    )


def lvsm(small, *, fusion="pixel", position_encoding="none", **given):
    given.setdefault("tokenizer", small(TOKENIZERS, "linear") if fusion == "token_mlp" else None)
    return small(
        MODELS, "lvsm_encoder_decoder", **parts(small, fusion=fusion, position_encoding=position_encoding, **given)
    )


def pairs(chosen: tuple[str, ...]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    """Every two parts of a combination, with the place of each."""
    return set(combinations(enumerate(chosen), 2))


def combinations_with_every_pair(*kinds: list[str]) -> list[tuple[str, ...]]:
    """A few combinations in which every two parts of different kinds occur together."""
    left, chosen = {pair for one in product(*kinds) for pair in pairs(one)}, []
    while left:
        chosen.append(max(product(*kinds), key=lambda one: len(pairs(one) & left)))
        left -= pairs(chosen[-1])
    return chosen


KINDS = (
    (CAMERA_HEADS, object),
    (ATTENTION_LAYOUTS, object),
    (POSITION_ENCODINGS, object),
    (FUSIONS, object),
    (RENDERERS, TokenRenderer),
)


@pytest.mark.parametrize(
    ("camera_head", "layout", "position_encoding", "fusion", "renderer"),
    combinations_with_every_pair(*(names(registry, base) for registry, base in KINDS)),
)
def test_every_two_parts_of_rayzer_train_together_or_are_refused(
    small, views, camera_head, layout, position_encoding, fusion, renderer
):
    chosen = {
        "camera_head": camera_head, "layout": layout, "position_encoding": position_encoding, "fusion": fusion,
        "renderer": renderer,
    }  # fmt: skip
    if layout == "frame" and not CAMERA_HEADS[camera_head].compares_views:
        with pytest.raises(InputError, match=r"views do not attend to each other.*each pose would depend on one image"):
            rayzer(small, **chosen)
        chosen["layout"] = "global"
    assert_trains(rayzer(small, **chosen), views)


@pytest.mark.parametrize("given", [
    {"num_camera_tokens": 0}, {"num_camera_tokens": 2, "num_register_tokens": 3}, {"num_latents": 0},
    {"estimator_depth": 3}, {"num_latents": 0, "patch_positions": "rays"}, {"patch_positions": "rays"},
    {"num_camera_tokens": 0, "camera_head": "pi3", "num_register_tokens": 1},
    {"input_norms": True, "pixel_norm_gain": False, "qk_norm_eps": None}, {"qk_norm_eps": 1e-3},
    {"share_ray_tokens": True, "fusion": "residual_mlp"}, {"poses_from_single_images": True, "layout": "frame"},
])  # fmt: skip
def test_every_other_rayzer_option_trains(small, views, given):
    model = rayzer(small, **given)
    assert (model.scene.latents is None) == (given.get("num_latents") == 0)
    assert_trains(model, views)


def test_a_model_with_given_intrinsics_needs_them(small, views):
    head = small(CAMERA_HEADS, "pi3", field_of_view="fixed")
    model = small(
        MODELS, "rayzer", tokenizer=small(TOKENIZERS, "linear"), layout=small(ATTENTION_LAYOUTS, "global"),
        camera_head=head, intrinsics="given", **parts(small),
    )  # fmt: skip
    assert_trains(model, views)
    assert torch.equal(model(views).cameras.intrinsics, views.cameras.intrinsics)
    assert torch.equal(model.cameras_of(views).intrinsics, views.cameras.intrinsics)
    unposed = Views(views.images, views.frames, views.context, views.target, views.scenes)
    for call in (model, model.cameras_of):
        with pytest.raises(UnposedInputError, match="RayZer needs intrinsics, and 'attic' has none"):
            call(unposed)
    with pytest.raises(UnposedInputError, match=r"call estimate\(images, intrinsics\)"):
        model.estimate(views.images)


def test_decoder_only_depends_on_every_context_view_but_not_on_their_order(small, views):
    model = small(MODELS, "lvsm_decoder_only", **parts(small, position_encoding="none"))
    assert_trains(model, views)
    cameras, order = views.cameras, torch.tensor([[2, 0, 4]] * 2)
    scene = model.reconstruct(views.context_images, cameras.select(views.context))
    assert scene.tokens.shape == (2, 3 * 6, 32)  # one token per context patch
    shuffled = Views(views.images, views.frames, order, views.target, views.scenes, cameras)
    torch.testing.assert_close(model(shuffled).images, model(views).images)
    changed = views.images.clone()
    changed[:, 2] = 0.5
    other = Views(changed, views.frames, views.context, views.target, views.scenes, cameras)
    assert not torch.allclose(model(other).images, model(views).images, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("fusion", "renderer", "position_encoding"), [
    ("pixel", "joint", "none"), ("pixel", "reading", "rope2d"), ("token_mlp", "joint", "sinusoidal"),
    ("token_mlp", "reading", "none"), ("token_mlp", "joint", "rope2d"),
])  # fmt: skip
def test_every_lvsm_combination_trains(small, views, fusion, renderer, position_encoding):
    if position_encoding == "sinusoidal":  # LVSM has no camera tokens for a view's index to be added to
        encoding = small(POSITION_ENCODINGS, "sinusoidal", image_index=False)
        model = lvsm(small, fusion=fusion, renderer=renderer)
        model.position_encoding = model.scene.position_encoding = encoding
    else:
        model = lvsm(small, fusion=fusion, renderer=renderer, position_encoding=position_encoding)
    assert_trains(model, views)


@pytest.mark.parametrize("build", [rayzer, lvsm])
@pytest.mark.parametrize("every", [1, 2])
def test_activation_checkpointing_changes_no_gradient(small, views, build, every):
    gradients = []
    for checkpointing in (0, every):
        model = build(small, renderer="reading", position_encoding="rope2d", activation_checkpointing=checkpointing)
        assert {m.checkpoint_every for m in model.modules() if isinstance(m, Stack)} == {checkpointing}
        loss_of(model, views).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_image_index_counts_views_in_the_list_that_was_estimated_together(small, views):
    model = rayzer(small, fusion="token_mlp", position_encoding="sinusoidal")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5)  # at the start of training every part has little effect
    cameras = model.cameras_of(views)
    context = cameras.select(views.context)
    right = model.render(model.reconstruct(views.context_images, context, views.context), cameras.select(views.target))
    torch.testing.assert_close(right, model(views).images, atol=1e-5, rtol=0)
    wrong = model.render(model.reconstruct(views.context_images, context), cameras.select(views.target))
    assert (wrong - right).abs().max() > 1e-3


@pytest.mark.parametrize("camera_head", ["pi3", "se3"])
def test_view_order_does_not_matter_without_an_encoding_of_view_numbers(small, camera_head):
    model = rayzer(small, camera_head=camera_head).eval()
    images = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([2, 0, 3, 1])
    cameras, shuffled = model.estimate(images), model.estimate(images[:, order])
    torch.testing.assert_close(shuffled.c2w, cameras.c2w[:, order])
    scene, other = model.reconstruct(images, cameras), model.reconstruct(images[:, order], shuffled)
    torch.testing.assert_close(model.render(other, cameras), model.render(scene, cameras))


def test_target_pixels_affect_images_by_their_cameras_alone(small, views):
    """With fixed cameras, target pixels do not change the prediction."""
    model = rayzer(small, fusion="token_mlp").eval()
    cameras = model.cameras_of(views)
    model.cameras_of = model._cameras = lambda *_: cameras
    before = model(views).images
    views.images[:, 1] = views.images[:, 3] = 0.5
    torch.testing.assert_close(model(views).images, before)
    views.images[:, 0] = 0.5
    assert not torch.allclose(model(views).images, before)


def test_rays_as_positions_depend_on_cameras_and_give_them_gradients(small, views):
    model = lvsm(small, position_encoding="rope2d", patch_positions="rays", renderer="reading", num_latents=0)
    c2w = views.cameras.c2w.clone().requires_grad_()
    scene = model.reconstruct(views.images, Cameras(c2w, views.cameras.intrinsics))
    assert scene.positions.shape == (2, 5 * 6, 2)
    (gradient,) = torch.autograd.grad(scene.positions.square().sum(), c2w)
    assert gradient[..., :3, :3].abs().sum() > 0


def test_models_run_in_bfloat16_with_cameras_in_float32(small, views):
    for model in (rayzer(small), rayzer(small, fusion="token_mlp", position_encoding="sinusoidal")):
        with torch.autocast("cpu", torch.bfloat16):
            prediction = model(views)
        assert prediction.cameras.c2w.dtype == prediction.images.dtype == torch.float32
        exact = model(views)
        torch.testing.assert_close(prediction.images, exact.images, atol=0.02, rtol=0)
        pure = model.to(torch.bfloat16)(views)
        torch.testing.assert_close(pure.images.float(), exact.images, atol=0.02, rtol=0)


def test_a_posed_model_refuses_views_without_cameras(small, views):
    model = lvsm(small)
    unposed = Views(views.images, views.frames, views.context, views.target, views.scenes)
    with pytest.raises(UnposedInputError, match="needs camera poses, and 'attic' has none"):
        model(unposed)
    with pytest.raises(UnposedInputError, match="cannot estimate cameras"):
        model.estimate(views.images)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fusion": "token_mlp", "tokenizer": None}, "TokenFusion reads image tokens; give the model a tokenizer"),
        ({"position_encoding": "sinusoidal"}, "changes image tokens, and fusion PixelFusion reads none"),
        ({"num_latents": -1}, "num_latents must be 0"),
        ({"activation_checkpointing": -1}, "activation_checkpointing must be 0"),
    ],
)
def test_arguments_of_lvsm_that_contradict_are_refused(small, given, message):
    with pytest.raises(ValueError, match=message):
        lvsm(small, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share_ray_tokens": True}, "rays alone, and fusion PixelFusion has none"),
        ({"intrinsics": "given"}, "cannot be combined with camera head Rot6dHead, which predicts intrinsics"),
        ({"qk_norm_eps": 0.0}, "qk_norm_eps must be above 0, or null for no norm, got 0.0"),
    ],
)
def test_arguments_of_rayzer_that_contradict_are_refused(small, given, message):
    with pytest.raises(ValueError, match=message):
        rayzer(small, **given)


def test_a_tokenizer_without_use_is_refused(small):
    with pytest.raises(InputError, match="reads pixels; leave out tokenizer LinearTokenizer"):
        lvsm(small, tokenizer=small(TOKENIZERS, "linear"))


def test_tokenizer_with_other_patches_is_refused(small):
    with pytest.raises(InputError, match="LinearTokenizer was built with patch_size 4, the model has 8"):
        rayzer(small, tokenizer=small(TOKENIZERS, "linear", patch_size=4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fusion": (FUSIONS, "pixel", {"patch_size": 16})}, "PixelFusion was built with patch_size 16"),
        ({"fusion": (FUSIONS, "token_mlp", {"width": 64})}, "TokenFusion was built with width 64, the model has 32"),
        ({"renderer": (RENDERERS, "joint", {"width": 48})}, "JointRenderer was built with width 48"),
        ({"camera_head": (CAMERA_HEADS, "se3", {"width": 16})}, "Se3Head was built with width 16"),
    ],
)
def test_parts_of_other_sizes_are_refused_by_name(small, given, message):
    ((name, (registry, kind, sizes)),) = given.items()
    parts_of_rayzer = parts(small) | {
        "tokenizer": small(TOKENIZERS, "linear"),
        "layout": small(ATTENTION_LAYOUTS, "global"),
        "camera_head": small(CAMERA_HEADS, "rot6d"),
    }
    with pytest.raises(InputError, match=message):
        small(MODELS, "rayzer", **parts_of_rayzer | {name: small(registry, kind, **sizes)})


def test_heads_that_do_not_divide_the_width_are_refused(small):
    with pytest.raises(ValueError, match="width 32 must be a multiple of num_heads 5"):
        rayzer(small, num_heads=5)
