"""RayZer with scenes of Gaussians: it trains, its encoders, its scenes, and combinations without a meaning."""

import pytest
import torch
from learning import assert_trains, awake

from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    ATTENTION_LAYOUTS,
    CAMERA_HEADS,
    FUSIONS,
    MODELS,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
    GaussianScene,
    InputError,
)


def rayzer(small, *, renderer="gaussians", **given):
    return small(
        MODELS,
        "rayzer",
        tokenizer=small(TOKENIZERS, "linear"),
        position_encoding=small(POSITION_ENCODINGS, "rope2d"),
        layout=small(ATTENTION_LAYOUTS, "global"),
        camera_head=small(CAMERA_HEADS, "rot6d"),
        fusion=small(FUSIONS, "pixel"),
        renderer=small(RENDERERS, renderer),
        attention=ATTENTION_BACKENDS["auto"](),
        **{"num_latents": 0} | given,
    )


@pytest.mark.parametrize("encoder", ["joint", "per_view", "alternating"])
def test_rayzer_trains_with_gaussians_and_each_kind_of_encoder(small, views, encoder):
    model = rayzer(small, encoder=encoder)
    assert_trains(model, views)
    scene = model.reconstruct(views.context_images, views.cameras.select(views.context))
    assert isinstance(scene, GaussianScene)
    assert scene.gaussians.num_gaussians == 3 * 16 * 24
    assert set(model.eval()(views).extra_images) == {"depth", "opacity"}


@torch.no_grad()
def test_context_views_influence_each_other_unless_the_encoder_keeps_them_apart(small, views):
    cameras = views.cameras.select(views.context)
    changed = views.context_images.clone()
    changed[:, 2] = 0.5
    for encoder, apart in (("joint", False), ("per_view", True), ("alternating", False)):
        model = awake(rayzer(small, encoder=encoder)).eval()
        before, after = (model.reconstruct(seen, cameras).gaussians.means for seen in (views.context_images, changed))
        first = slice(0, 2 * 16 * 24)
        assert torch.equal(before[:, first], after[:, first]) == apart
        if apart:
            part = type(cameras)(cameras.c2w[:, :2], cameras.intrinsics[:, :2])
            last = type(cameras)(cameras.c2w[:, 2:], cameras.intrinsics[:, 2:])
            grown = model.extend(model.reconstruct(changed[:, :2], part), changed[:, 2:], last)
            torch.testing.assert_close(grown.gaussians.means, after)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_latents": 3}, "it needs num_latents 0"),
        ({"patch_positions": "rays"}, "patch_positions 'grid'"),
        ({"renderer": "joint", "encoder": "alternating"}, "the encoder 'alternating' needs a scene of Gaussians"),
    ],
)
def test_combinations_without_a_meaning_are_refused(small, given, message):
    with pytest.raises(InputError, match=message):
        rayzer(small, **given)
