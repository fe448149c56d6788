"""``extend`` equals ``reconstruct`` of all views in models whose context views see no later views; others refuse."""

import pytest
import torch
from learning import awake
from torch import Tensor

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
    Model,
)
from openrayzer.layers.hourglass import Level
from openrayzer.types import Cameras, Scene, Views, tensors_of


def lvsm(small, name="lvsm_decoder_only", *, renderer="reading", position_encoding="rope2d", **given) -> Model:
    return small(
        MODELS,
        name,
        fusion=small(FUSIONS, "token_mlp"),
        tokenizer=small(TOKENIZERS, "linear"),
        renderer=small(RENDERERS, renderer),
        position_encoding=small(POSITION_ENCODINGS, position_encoding),
        attention=ATTENTION_BACKENDS["sdpa"](),
        **given,
    )


def rayzer(small, **given) -> Model:
    layout, head = small(ATTENTION_LAYOUTS, "global"), small(CAMERA_HEADS, "rot6d")
    return lvsm(small, "rayzer", layout=layout, camera_head=head, **given)


def rayder(small, **given) -> Model:
    levels = (Level(width=16, depth=1, patch=2), Level(width=16, depth=1, patch=2))
    head, attention = small(CAMERA_HEADS, "se3"), ATTENTION_BACKENDS["sdpa"]()
    return small(MODELS, "rayder", levels=levels, camera_head=head, attention=attention, head_width=8, **given)


GROWING = {
    "rayder": rayder,
    "rayder, rays": lambda small: rayder(small, global_positions="rays"),
    "decoder-only, joint": lambda small: lvsm(small, renderer="joint"),
    "decoder-only, reading": lvsm,
    "decoder-only, counted views": lambda small: lvsm(small, position_encoding="sinusoidal"),
    "decoder-only, rays": lambda small: lvsm(small, patch_positions="rays"),
    "encoder-decoder without encoder": lambda small: lvsm(
        small, "lvsm_encoder_decoder", num_latents=0, encoder_depth=0
    ),
    "encoder per view, joint": lambda small: lvsm(
        small, "lvsm_encoder_decoder", num_latents=0, encoder="per_view", renderer="joint"
    ),
    "encoder per view, reading": lambda small: lvsm(small, "lvsm_encoder_decoder", num_latents=0, encoder="per_view"),
    "efficient": lambda small: lvsm(small, "efficient_lvsm", renderer="layered"),
    "efficient, counted views": lambda small: lvsm(
        small, "efficient_lvsm", renderer="layered", position_encoding="sinusoidal"
    ),
    "rayzer, layered": lambda small: rayzer(
        small, num_latents=0, encoder="per_view", renderer="layered", patch_positions="rays"
    ),
    "rayzer without encoder": lambda small: rayzer(
        small, num_latents=0, encoder_depth=0, input_norms=True, position_encoding="sinusoidal"
    ),
}
FIXED = {
    "latents": lambda small: lvsm(small, "lvsm_encoder_decoder"),
    "tokens with blocks": lambda small: lvsm(small, "lvsm_encoder_decoder", num_latents=0),
    "latents without blocks": lambda small: lvsm(small, "lvsm_encoder_decoder", encoder_depth=0),
    "rayzer": rayzer,
}


@pytest.fixture(params=GROWING)
def growing(request, small) -> Model:
    return awake(GROWING[request.param](small)).eval()


@pytest.fixture
def cameras(views: Views) -> Cameras:
    assert views.cameras is not None
    return views.cameras


def some(cameras: Cameras, views: slice) -> Cameras:
    return Cameras(cameras.c2w[:, views], cameras.intrinsics[:, views])


def extended(model: Model, images: Tensor, cameras: Cameras, cuts: tuple[int, ...], prepared: bool = False) -> Scene:
    """The scene of the views up to the first cut, extended by the views up to each further cut."""
    first, *others = cuts
    scene = model.reconstruct(images[:, :first], some(cameras, slice(first)))
    scene = model.prepare(scene) if prepared else scene
    for before, after in zip(cuts, others, strict=False):
        part = slice(before, after)
        scene = model.extend(scene, images[:, part], some(cameras, part))
    return scene


def assert_same(seen: Scene, wanted: Scene) -> None:
    assert seen.image_size == wanted.image_size
    for one, other in zip(tensors_of(seen), tensors_of(wanted), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5), (2, 5), (1, 3, 5)], ids=str)
@torch.no_grad()
def test_an_extended_scene_is_that_of_all_views(growing, views, cameras, cuts):
    whole = growing.reconstruct(views.images, cameras)
    grown = extended(growing, views.images, cameras, cuts)
    assert_same(grown, whole)
    images = growing.render(grown, cameras)
    torch.testing.assert_close(images, growing.render(whole, cameras), atol=1e-5, rtol=1e-4)
    fewer = growing.render(extended(growing, views.images, cameras, cuts[:-1]), cameras)
    assert not torch.allclose(images, fewer, atol=1e-4)  # the added views matter


@torch.no_grad()
def test_a_prepared_scene_stays_prepared(growing, views, cameras):
    whole = growing.prepare(growing.reconstruct(views.images, cameras))
    grown = extended(growing, views.images, cameras, (2, 4, 5), prepared=True)
    assert_same(grown, whole)
    images = growing.render(grown, cameras)
    torch.testing.assert_close(images, growing.render(whole, cameras), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_added_views_have_the_given_positions(small, views, cameras):
    model = awake(GROWING["decoder-only, counted views"](small)).eval()
    places = torch.tensor([[4, 1, 7, 0, 2], [3, 2, 9, 8, 1]])
    whole = model.reconstruct(views.images, cameras, places)
    first = model.reconstruct(views.images[:, :3], some(cameras, slice(3)), places[:, :3])
    grown = model.extend(first, views.images[:, 3:], some(cameras, slice(3, 5)), places[:, 3:])
    assert_same(grown, whole)
    assert not torch.allclose(grown.tokens, model.reconstruct(views.images, cameras).tokens, atol=1e-4)


@pytest.mark.parametrize("prepared", [False, True])
@torch.no_grad()
def test_earlier_views_are_not_computed_again(growing, views, cameras, prepared):
    scene = growing.reconstruct(views.images[:, :3], some(cameras, slice(3)))
    scene = growing.prepare(scene) if prepared else scene
    grown = growing.extend(scene, views.images[:, 3:], some(cameras, slice(3, 5)))
    for known, longer in zip(tensors_of(scene), tensors_of(grown), strict=True):
        assert torch.equal(longer[:, : known.shape[1]], known)
        assert longer.shape[1] * 3 == known.shape[1] * 5


@pytest.mark.parametrize("renderer", ["reading", "layered"])
@torch.no_grad()
def test_a_prepared_scene_is_extended_by_the_keys_and_values_of_the_new_views_alone(small, views, cameras, renderer):
    model = lvsm(small, "efficient_lvsm", renderer=renderer).eval()
    scene = model.prepare(model.reconstruct(views.images[:, :3], some(cameras, slice(3))))
    lengths = []
    for block in model.scene.renderer.stack.blocks:
        block.reading.key_value.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    model.extend(scene, views.images[:, 3:4], some(cameras, slice(3, 4)))
    assert lengths == [6, 6]  # tokens of one view, in both blocks


def test_gradients_of_extend_are_those_of_reconstruct(growing, views, cameras):
    gradients = []
    for scene in (
        growing.reconstruct(views.images, cameras),
        extended(growing, views.images, cameras, (2, 5)),
    ):
        loss = growing.render(scene, cameras).square().mean()
        used = [weight for weight in growing.parameters() if weight.requires_grad]
        gradients.append(torch.autograd.grad(loss, used, allow_unused=True))
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_images_that_do_not_fit_the_scene_are_refused(growing, views, cameras):
    scene = growing.reconstruct(views.images[:, :3], some(cameras, slice(3)))
    last = some(cameras, slice(3, 5))
    with pytest.raises(InputError, match="images of 16 x 24 pixels, the new images have 24 x 16"):
        growing.extend(scene, views.images[:, 3:].mT, last)
    with pytest.raises(InputError, match="new images of 1 scenes for the extension of 2 scenes"):
        growing.extend(scene, views.images[:1, 3:], Cameras(last.c2w[:1], last.intrinsics[:1]))


@pytest.mark.parametrize("name", FIXED)
def test_a_model_with_attention_among_all_views_refuses(small, views, cameras, name):
    model = FIXED[name](small).eval()
    scene = model.reconstruct(views.images[:, :3], some(cameras, slice(3)))
    with pytest.raises(InputError, match=f"{type(model).__name__} cannot add views to a scene.* anew"):
        model.extend(scene, views.images[:, 3:], some(cameras, slice(3, 5)))
