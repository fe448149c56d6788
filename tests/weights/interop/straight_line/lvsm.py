"""Both variants of LVSM, in plain torch.

Source: Haian-Jin/LVSM, LVSM_scene_encoder_decoder and LVSM_scene_decoder_only; Jin et al. 2025, "LVSM".
"""

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from straight_line.common import State, layer_norm, linear, patches, per_target, pixels, plucker, stack, with_loss
from torch import Tensor


def encoder_decoder(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute render and loss. Latents come before context tokens; in the decoder, target tokens come first."""
    head = config["model"]["transformer"]["d_head"]
    contexts, targets = tokens(state, inputs, config)
    latents = repeat(state["n_light_field_latent"], "k d -> b k d", b=contexts.shape[0])
    scene = stack(state, "transformer_encoder", torch.cat([latents, contexts], dim=1), head=head)
    read = per_target(scene[:, : latents.shape[1]], targets)
    read = layer_norm(state, "transformer_input_layernorm_decoder", read)
    read = stack(state, "transformer_decoder", read, head=head)[:, : targets.shape[2]]
    return rendered(state, read, inputs, config)


def decoder_only(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute render and loss. Context tokens are repeated for each target, whose tokens come last."""
    head = config["model"]["transformer"]["d_head"]
    contexts, targets = tokens(state, inputs, config)
    read = per_target(contexts, targets, targets_first=False)
    read = layer_norm(state, "transformer_input_layernorm", read)
    read = stack(state, "transformer_blocks", read, head=head)[:, -targets.shape[2] :]
    return rendered(state, read, inputs, config)


def tokens(
    state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[Float[Tensor, "b vn d"], Float[Tensor, "b v n d"]]:
    """Return tokens of colours in [-1, 1] and rays of the context views, and tokens of rays of the target views."""
    patch, images = config["model"]["image_tokenizer"]["patch_size"], inputs["image"]
    num_context, num_target = (config["training"][f"num_{kind}_views"] for kind in ("input", "target"))
    rays = plucker(inputs["c2w"], inputs["fxfycxcy"], images.shape[-2:])
    posed = torch.cat([images * 2 - 1, rays], dim=2)[:, :num_context]
    contexts = linear(state, "image_tokenizer.1", patches(posed, patch))
    targets = linear(state, "target_pose_tokenizer.1", patches(rays[:, -num_target:], patch))
    return rearrange(contexts, "b v n d -> b (v n) d"), targets


def rendered(
    state: State, read: Float[Tensor, "bv n d"], inputs: Mapping[str, Tensor], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    truth = inputs["image"][:, -config["training"]["num_target_views"] :]
    columns = linear(state, "image_token_decoder.1", layer_norm(state, "image_token_decoder.0", read))
    columns = rearrange(columns, "(b v) n c -> b v n c", v=truth.shape[1])
    return with_loss(pixels(columns, config["model"]["image_tokenizer"]["patch_size"], truth.shape[-2:]), truth)
