"""Efficient-LVSM in plain torch.

Source: Ayakaee/Efficient-LVSM, Images2LatentScene; Jia et al. 2026, "Efficient-LVSM".
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from straight_line.common import State, attention, depth_of, linear, patches, pixels, plucker, rms_norm, two_layers
from torch import Tensor

INPUT, TARGET = "input_self_attn_blocks", "self_cross_blocks"


def forward(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute render, loss and the renders of growing lists of context views, each from scratch."""
    size = inputs["image"].shape[-2:]
    rays = plucker(inputs["c2w"], inputs["fxfycxcy"], size)
    posed = torch.cat([inputs["image"] * 2 - 1, rays], dim=2)
    patch, head = (config["model"]["target_pose_tokenizer"]["patch_size"], config["model"]["transformer"]["d_head"])
    context = linear(state, "rgbp_tokenizer.1", patches(chosen(posed, inputs["input_idx"]), patch))
    target = linear(state, "target_pose_tokenizer.1", patches(chosen(rays, inputs["target_idx"]), patch))
    ends = inputs["increments"].cumsum(0).tolist()
    renders = [
        pixels(linear(state, "image_token_decoder.1", normed(read(state, context[:, :end], target, head))), patch, size)
        for end in ends
    ]
    truth = chosen(inputs["image"], inputs["target_idx"])
    outputs = {f"render_increment_{number}": render for number, render in enumerate(renders)}
    return outputs | {"render": renders[-1].clone(), "loss": (renders[-1] - truth).square().mean()}


def read(
    state: State, context: Float[Tensor, "b vc n d"], target: Float[Tensor, "b vt n d"], head: int
) -> Float[Tensor, "b vt n d"]:
    """Tokens of the target views; the same layer of both streams in turn."""
    seen, asked = rearrange(context, "b v n d -> (b v) n d"), rearrange(target, "b v n d -> (b v) n d")
    for number in range(depth_of(state, INPUT)):
        name = f"{INPUT}.{number}"
        seen = seen + attention(state, f"{name}.attn", normed(seen), head=head, eps=1e-5, rotate=None)
        seen = seen + two_layers(state, f"{name}.mlp.mlp.0", f"{name}.mlp.mlp.2", normed(seen), F.gelu)
        name = f"{TARGET}.{number}"
        asked = asked + attention(state, f"{name}.self_attn", normed(asked), head=head, eps=1e-5, rotate=None)
        memory = rearrange(seen, "(b v) n d -> b (v n) d", v=context.shape[1])
        memory = repeat(memory, "b k d -> (b v) k d", v=target.shape[1])
        asked = asked + cross_attention(state, f"{name}.cross_attn", normed(asked), normed(memory), head)
        asked = asked + two_layers(state, f"{name}.mlp.mlp.0", f"{name}.mlp.mlp.2", normed(asked), F.gelu)
    return rearrange(asked, "(b v) n d -> b v n d", v=target.shape[1])


def cross_attention(
    state: State, name: str, asked: Float[Tensor, "b n d"], memory: Float[Tensor, "b k d"], head: int
) -> Float[Tensor, "b n d"]:
    query = rearrange(linear(state, f"{name}.to_q", asked), "b n (h e) -> b h n e", e=head)
    key, value = rearrange(linear(state, f"{name}.to_kv", memory), "b k (two h e) -> two b h k e", two=2, e=head)
    if f"{name}.q_norm.weight" in state:
        query = rms_norm(query, state[f"{name}.q_norm.weight"], eps=1e-5)
        key = rms_norm(key, state[f"{name}.k_norm.weight"], eps=1e-5)
    shares = (einsum(query, key, "b h i e, b h j e -> b h i j") / math.sqrt(head)).softmax(dim=-1)
    answer = einsum(shares, value, "b h i j, b h j e -> b h i e")
    return linear(state, f"{name}.fc", rearrange(answer, "b h n e -> b n (h e)"))


def normed(tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """LayerNorm without gain and bias."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-5)


def chosen(values: Tensor, places: Tensor) -> Tensor:
    """The views of each clip at its places."""
    return torch.stack([clip[views] for clip, views in zip(values, places, strict=True)])
