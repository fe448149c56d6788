"""Small models with random weights, so large that every input matters."""

import torch

from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    ATTENTION_LAYOUTS,
    CAMERA_HEADS,
    FUSIONS,
    MODELS,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
    Model,
)
from openrayzer.layers.hourglass import Level

WIDTH = 16


def awake(model: Model) -> Model:
    """The model in evaluation mode, with random weights instead of weights near zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5)
    return model.eval()


def rayzer(*, camera_head: str = "rot6d", position_encoding: str = "sinusoidal", **options: object) -> Model:
    """A RayZer: its position encoding counts views, and its canonical view is the middle one."""
    encoding = POSITION_ENCODINGS[position_encoding]
    head_options = {"field_of_view": "fixed"} if options.get("intrinsics") == "given" else {}
    return awake(
        MODELS["rayzer"](
            width=WIDTH, num_heads=2, patch_size=8, estimator_depth=1, encoder_depth=1, num_latents=3,
            tokenizer=TOKENIZERS["linear"](width=WIDTH, patch_size=8),
            position_encoding=encoding(width=WIDTH) if position_encoding == "sinusoidal" else encoding(),
            layout=ATTENTION_LAYOUTS["global"](),
            camera_head=CAMERA_HEADS[camera_head](width=WIDTH, **head_options),
            fusion=FUSIONS["token_mlp"](width=WIDTH, patch_size=8),
            renderer=RENDERERS["joint"](width=WIDTH, num_heads=2, depth=1),
            attention=ATTENTION_BACKENDS["sdpa"](),
            **options,
        )
    )  # fmt: skip


def rayder() -> Model:
    level = Level(width=WIDTH, depth=1, patch=2)
    return awake(
        MODELS["rayder"](
            width=WIDTH, depth=1, levels=(level, level), head_width=8, state_width=4,
            camera_head=CAMERA_HEADS["se3"](width=WIDTH),
            attention=ATTENTION_BACKENDS["sdpa"](),
        )
    )  # fmt: skip


def lvsm() -> Model:
    return awake(
        MODELS["lvsm_encoder_decoder"](
            width=WIDTH, num_heads=2, patch_size=8, encoder_depth=1, num_latents=3,
            fusion=FUSIONS["pixel"](width=WIDTH, patch_size=8),
            renderer=RENDERERS["joint"](width=WIDTH, num_heads=2, depth=1),
            attention=ATTENTION_BACKENDS["sdpa"](),
            position_encoding=POSITION_ENCODINGS["none"](),
        )
    )  # fmt: skip


ESTIMATORS = {
    **{f"rayzer {head}": lambda head=head: rayzer(camera_head=head) for head in ("rot6d", "quaternion", "se3", "pi3")},
    "rayzer camera_index": lambda: rayzer(position_encoding="camera_index"),
    "rayzer given intrinsics": lambda: rayzer(camera_head="pi3", intrinsics="given"),
    "rayder": rayder,
}
"""All kinds of models that estimate cameras."""
