"""UP-LVSM and PT-LVSM, in plain torch.

Source: ou524u/Less3Depend, model/uplvsm.py, model/ptlvsm.py, model/estimator.py; DINOv2 of facebookresearch.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from straight_line.common import (
    State,
    attention,
    c2w_of,
    depth_of,
    layer_norm,
    linear,
    patches,
    per_target,
    pixels,
    plucker,
    stack,
    two_layers,
    with_loss,
)
from torch import Tensor

DINO, PATCH, EPS = "image_tokenizer.1.dino_vit", 14, 1e-3


def unposed(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute render, c2w and plucker of the targets, and loss: the pose of a target comes from its image."""
    head = config["model"]["transformer"]["d_head"]
    contexts, truth, known = roles(inputs, inputs["fxfycxcy"])
    own_frame = torch.eye(4).expand(*known[0].shape[:2], 4, 4)
    tokens = marked(state, contexts, own_frame, known[0])
    latents = repeat(state["n_light_field_latent"], "k d -> b k d", b=tokens.shape[0])
    scene = stack(state, "transformer_encoder", torch.cat([latents, tokens], dim=1), head=head, eps=EPS)
    scene = scene[:, : latents.shape[1]]
    c2w = located(state, scene, dino(state, truth), head=head)
    rays = plucker(c2w, known[1], truth.shape[-2:])
    read = per_target(scene, linear(state, "target_pose_tokenizer.1", patches(rays, PATCH)))
    read = layer_norm(state, "transformer_input_layernorm_decoder", read)
    read = stack(state, "transformer_decoder", read, head=head, eps=EPS)
    return rendered(state, read, truth, first=True) | {"c2w": c2w, "plucker": rays}


def posed_targets(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute render and loss: poses of the targets and of the first context view are given."""
    head = config["model"]["transformer"]["d_head"]
    contexts, truth, known = roles(inputs, inputs["fxfycxcy"])
    poses = roles(inputs, inputs["c2w"])[2]
    tokens = marked(state, contexts, poses[0], known[0])
    rays = plucker(poses[1], known[1], truth.shape[-2:])
    asked = linear(state, "target_pose_tokenizer.1", patches(rays, PATCH))
    read = layer_norm(state, "transformer_input_layernorm", per_target(tokens, asked, targets_first=False))
    read = stack(state, "transformer_blocks", read, head=head, eps=EPS)
    return rendered(state, read, truth, first=False)


def roles(inputs: Mapping[str, Tensor], values: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return images of context and target views, and the values of both."""
    context, target = inputs["input_idx"], inputs["target_idx"]
    images = inputs["image"]
    return chosen(images, context), chosen(images, target), (chosen(values, context), chosen(values, target))


def chosen(values: Tensor, places: Int[Tensor, "b v"]) -> Tensor:
    return torch.stack([row[place] for row, place in zip(values, places, strict=True)])


def marked(
    state: State, images: Float[Tensor, "b v 3 h w"], c2w: Float[Tensor, "b v 4 4"], fxfycxcy: Float[Tensor, "b v 4"]
) -> Float[Tensor, "b vn d"]:
    """Return tokens of all context views; rays are added to those of the first one."""
    tokens = dino(state, images)
    rays = plucker(c2w[:, :1], fxfycxcy[:, :1], images.shape[-2:])
    marker = linear(state, "canonical_pose_tokenizer.1", patches(rays, PATCH))
    others = torch.zeros_like(tokens[:, 1:])
    return rearrange(tokens + torch.cat([marker, others], dim=1), "b v n d -> b (v n) d")


def dino(state: State, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v n d"]:
    """Return patch tokens after the last norm; pixels in [0, 1] are not normalised."""
    batch, rows, columns = images.shape[0], images.shape[-2] // PATCH, images.shape[-1] // PATCH
    projection = (state[f"{DINO}.patch_embed.proj.{kind}"] for kind in ("weight", "bias"))
    grid = F.conv2d(rearrange(images, "b v c h w -> (b v) c h w"), *projection, stride=PATCH)
    table = state[f"{DINO}.pos_embed"][0]
    places = rearrange(table[1:], "(y x) d -> 1 d y x", y=37)
    if (rows, columns) != (37, 37):
        places = F.interpolate(places, size=(rows, columns), mode="bicubic", antialias=True)
    x = rearrange(grid + places, "bv d y x -> bv (y x) d")
    first = torch.cat([state[f"{DINO}.cls_token"][0] + table[:1], state[f"{DINO}.register_tokens"][0]])
    x = torch.cat([repeat(first, "k d -> bv k d", bv=x.shape[0]), x], dim=1)
    for number in range(depth_of(state, f"{DINO}.blocks")):
        name = f"{DINO}.blocks.{number}"
        normed = f"{name}.attn.q_norm.weight" in state
        head = len(state[f"{name}.attn.q_norm.weight"]) if normed else 64
        seen = fine_norm(state, f"{name}.norm1", x)
        seen = attention(state, f"{name}.attn", seen, head=head, eps=EPS, rotate=None)
        x = x + state[f"{name}.ls1.gamma"] * seen
        seen = fine_norm(state, f"{name}.norm2", x)
        x = x + state[f"{name}.ls2.gamma"] * two_layers(state, f"{name}.mlp.fc1", f"{name}.mlp.fc2", seen, F.gelu)
    x = fine_norm(state, f"{DINO}.norm", x)[:, len(first) :]
    return rearrange(x, "(b v) n d -> b v n d", b=batch)


def fine_norm(state: State, name: str, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """LayerNorm with eps 1e-6."""
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def located(
    state: State, scene: Float[Tensor, "b k d"], tokens: Float[Tensor, "b v n d"], *, head: int
) -> Float[Tensor, "b v 4 4"]:
    """Return the poses of target views from their own tokens beside the scene."""
    seen = stack(state, "estimator.transformer_estimator", per_target(scene, tokens), head=head, eps=EPS)
    mean = rearrange(seen[:, : tokens.shape[2]].mean(dim=1), "(b v) d -> b v d", v=tokens.shape[1])
    translation, quaternion = (
        two_layers(state, f"estimator.{kind}_head.fc1", f"estimator.{kind}_head.fc2", mean, F.gelu)
        for kind in ("absT", "quaR")
    )
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([w * w + x * x - y * y - z * z, 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=-1),
        torch.stack([2 * (x * y + z * w), w * w - x * x + y * y - z * z, 2 * (y * z - x * w)], dim=-1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), w * w - x * x - y * y + z * z], dim=-1),
    ]
    return c2w_of(torch.stack(rows, dim=-2), translation)


def rendered(
    state: State, read: Float[Tensor, "bv m d"], truth: Float[Tensor, "b v 3 h w"], *, first: bool
) -> dict[str, Tensor]:
    """Return the images and their loss; the tokens of a target are the first or the last of its sequence."""
    count = truth.shape[-2] * truth.shape[-1] // PATCH**2
    read = read[:, :count] if first else read[:, -count:]
    columns = linear(state, "image_token_decoder.1", layer_norm(state, "image_token_decoder.0", read))
    columns = rearrange(columns, "(b v) n c -> b v n c", v=truth.shape[1])
    return with_loss(pixels(columns, PATCH, truth.shape[-2:]), truth)
