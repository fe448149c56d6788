"""``prepare`` does not change the images of any renderer, and the renderer reads the prepared tensors."""

from dataclasses import replace

import pytest
import torch
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
    TokenRenderer,
)


@pytest.mark.parametrize("renderer", names(RENDERERS, TokenRenderer))
@pytest.mark.parametrize("patch_positions", ["grid", "rays"])
def test_prepared_scenes_give_the_same_images(small, views, renderer, patch_positions):
    model = small(
        MODELS,
        "rayzer",
        tokenizer=small(TOKENIZERS, "linear"),
        layout=small(ATTENTION_LAYOUTS, "global"),
        camera_head=small(CAMERA_HEADS, "rot6d"),
        position_encoding=small(POSITION_ENCODINGS, "rope2d"),
        fusion=small(FUSIONS, "pixel"),
        renderer=small(RENDERERS, renderer),
        attention=ATTENTION_BACKENDS["auto"](),
        patch_positions=patch_positions,
    ).eval()
    with torch.no_grad():
        cameras = model.cameras_of(views)
        scene = model.reconstruct(views.context_images, cameras.select(views.context), views.context)
        prepared = model.prepare(scene)
        plain = model.render(scene, cameras)
        torch.testing.assert_close(model.render(prepared, cameras), plain)
        one = cameras.select(torch.zeros_like(views.context[:, :1]))
        torch.testing.assert_close(model.render(prepared, one), plain[:, :1])
        if prepared.prepared:  # the renderer reads these tensors
            emptied = tuple(torch.zeros_like(part) for part in prepared.prepared)
            other = model.render(replace(scene, prepared=emptied), cameras)
            assert not torch.allclose(other, plain)
    assert bool(prepared.prepared) == (renderer in ("reading", "layered"))
