"""Open-RayZer in plain torch, including the defects of the published code.

Source: ou524u/Open-Rayzer, src/model/rayzer.py, src/model/tokenizers.py and src/model/layers.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from straight_line.common import (
    Rotate,
    State,
    block,
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


def forward(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute render, c2w, loss, and fov (radians, one per scene) unless it is given."""
    images, patch = inputs["image"], config["model"]["tokenizer"]["patch_size"]
    num_context, num_target = (config["training"][f"num_{kind}_views"] for kind in ("input", "target"))
    batch, num_views, _, *size = images.shape
    sizes = {"head": config["model"]["transformer"]["d_head"], "eps": 1e-5 if _rotary(config) else 1e-3}
    grid = places(size[0] // patch, size[1] // patch)

    tokens = linear(state, "image_tokenizer.1", patches(images, patch))
    pooled = pose_features(state, estimate(state, tokens, grid, config, sizes))
    c2w = poses(state, pooled)
    outputs, intrinsics = {"c2w": c2w}, inputs["fxfycxcy"]
    if config["unposed"]["predict_fov"]:
        outputs["fov"] = field_of_view(state, pooled)
        intrinsics = repeat(intrinsics_of(outputs["fov"], size[0]), "b four -> b v four", v=num_views)
    rays = plucker(c2w, intrinsics, size)

    fused = fuse(state, tokens[:, :num_context], images[:, :num_context], rays[:, :num_context], config)
    latents = repeat(state["latent_scene_tokens"], "k d -> b k d", b=batch)
    count, nowhere = latents.shape[1], torch.zeros(latents.shape[1], 2)
    scene = torch.cat([rearrange(fused, "b v n d -> b (v n) d"), latents], dim=1)
    turn = rotation(torch.cat([grid.repeat(num_context, 1), nowhere]), config)
    scene = stack(state, "encoder_blocks", layer_norm(state, "encoder_layernorm", scene), rotate=turn, **sizes)

    asked = linear(state, "target_pose_tokenizer.1", patches(rays[:, -num_target:], patch))
    read = layer_norm(state, "decoder_layernorm", per_target(scene[:, -count:], asked))
    read = stack(state, "decoder_blocks", read, rotate=rotation(torch.cat([grid, nowhere]), config), **sizes)
    read = F.layer_norm(read[:, : asked.shape[2]], read.shape[-1:])
    columns = rearrange(linear(state, "image_unpatchifier.1", read), "(b v) n c -> b v n c", b=batch)
    return with_loss(pixels(columns, patch, size), images[:, -num_target:]) | outputs


def _rotary(config: Mapping[str, Any]) -> bool:
    return config["model"]["transformer"]["rope"]


def places(rows: int, columns: int) -> Float[Tensor, "n 2"]:
    """Return (row, column) of each token, from 1; latents are at (0, 0)."""
    row = repeat(torch.arange(rows) + 1.0, "y -> (y x)", x=columns)
    column = repeat(torch.arange(columns) + 1.0, "x -> (y x)", y=rows)
    return torch.stack([row, column], dim=-1)


def rotation(place: Float[Tensor, "n 2"], config: Mapping[str, Any]) -> Rotate | None:
    """Rotate the first half of each head by the row and the second half by the column, in (u, v) pairs.

    Source: Su et al. 2021 (RoFormer), equation 34, in the rotate-half layout.
    """
    if not _rotary(config):
        return None
    transformer = config["model"]["transformer"]
    half = transformer["d_head"] // 2
    frequency = transformer.get("rope_freq", 100.0) ** (-2 * torch.arange(half // 2) / half)
    angles = rearrange(place[..., None] * frequency, "n yx k -> yx n k")

    def rotate(heads: Float[Tensor, "b h n e"]) -> Float[Tensor, "b h n e"]:
        turned = []
        for angle, part in zip(angles, heads.chunk(2, dim=-1), strict=True):
            u, v = part.chunk(2, dim=-1)
            turned += [u * angle.cos() - v * angle.sin(), v * angle.cos() + u * angle.sin()]
        return torch.cat(turned, dim=-1)

    return rotate


def estimate(
    state: State,
    tokens: Float[Tensor, "b v n d"],
    grid: Float[Tensor, "n 2"],
    config: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> Float[Tensor, "b v n d"]:
    """Attend across views in even layers with rotary encoding and VGGT's style, otherwise within views only.

    After an odd number of layers the published code fails to take views apart again; here they are.

    Source: src/model/rayzer.py:199-212.
    """
    num_views = tokens.shape[1]
    meet = _rotary(config) and config["model"]["transformer"]["vggstyle"]
    tokens = layer_norm(state, "estimator_layernorm", tokens)
    for number in range(depth_of(state, "estimator_blocks")):
        everywhere = meet and number % 2 == 0
        turn = rotation(grid.repeat(num_views, 1) if everywhere else grid, config)
        layout = "b v n d -> b (v n) d" if everywhere else "b v n d -> (b v) n d"
        back = "b (v n) d -> b v n d" if everywhere else "(b v) n d -> b v n d"
        seen = block(state, f"estimator_blocks.{number}", rearrange(tokens, layout), rotate=turn, **sizes)
        tokens = rearrange(seen, back, v=num_views)
    return tokens


def pose_features(state: State, tokens: Float[Tensor, "b v n d"]) -> Float[Tensor, "b v d"]:
    """Apply two residual blocks of three layers each and average over a view.

    Source: src/model/layers/camera_head.py.
    """
    for number in range(2):
        change = tokens
        for layer in (1, 2, 3):
            change = F.relu(linear(state, f"pose_wrapper.res_conv.{number}.res_conv{layer}", change))
        tokens = tokens + change
    return reduce(tokens, "b v n d -> b v d", "mean")


def poses(state: State, pooled: Float[Tensor, "b v d"]) -> Float[Tensor, "b v 4 4"]:
    """Normalise the rows of nine numbers and return the rotation nearest to the transpose: V D U^T, det 1.

    Source: src/model/layers/camera_head.py; Levinson et al. 2020, "An Analysis of SVD for Deep Rotation Estimation".
    """
    names = "pose_wrapper.more_mlps.0", "pose_wrapper.more_mlps.2"
    features = F.relu(two_layers(state, *names, pooled, F.relu))
    nine = rearrange(linear(state, "pose_wrapper.fc_rot", features), "b v (i j) -> b v i j", i=3)
    u, _, vt = torch.linalg.svd(F.normalize(nine, dim=-1).mT)
    sign = torch.linalg.det(vt.mT @ u.mT)
    fix = torch.diag_embed(torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1))
    return c2w_of(vt.mT @ fix @ u.mT, linear(state, "pose_wrapper.fc_t", features))


def field_of_view(state: State, pooled: Float[Tensor, "b v d"]) -> Float[Tensor, "b 1"]:
    """Return the field of view in radians, from the mean over all views including targets.

    Source: src/model/layers/camera_head.py.
    """
    names = "pose_wrapper.fov_mlp.0", "pose_wrapper.fov_mlp.2"
    features = F.relu(two_layers(state, *names, reduce(pooled, "b v d -> b d", "mean"), F.relu))
    return F.softplus(linear(state, "pose_wrapper.fov_head", features)).clamp(min=1e-6)


def intrinsics_of(fov: Float[Tensor, "b 1"], height: int) -> Float[Tensor, "b 4"]:
    """Return intrinsics in pixels: f = 0.5 H / tan(fov / 2), cx = cy = H / 2 for any width.

    Source: src/model/rayzer.py.
    """
    focal = 0.5 * height / torch.tan(fov / 2)
    return torch.cat([focal, focal, torch.full((len(fov), 2), height / 2)], dim=-1)


def fuse(
    state: State,
    tokens: Float[Tensor, "b v n d"],
    images: Float[Tensor, "b v 3 h w"],
    rays: Float[Tensor, "b v 6 h w"],
    config: Mapping[str, Any],
) -> Float[Tensor, "b v n d"]:
    """Fuse colours in [0, 1] with rays by pixel, or their tokens by a network. Source: src/model/tokenizers.py."""
    patch, unposed = config["model"]["tokenizer"]["patch_size"], config["unposed"]
    if unposed["fusion_strategy"] == "pixel_fuse":
        return linear(state, "encoder_tokenizer.1", patches(torch.cat([images, rays], dim=2), patch))
    own = "target_pose_tokenizer.1" if unposed["decoder_as_canonical"] else "pose_tokenizer.1"
    ray_tokens = linear(state, own, patches(rays, patch))
    sides = [layer_norm(state, "encoder_fuse.ln_a", tokens), layer_norm(state, "encoder_fuse.ln_b", ray_tokens)]
    hidden = F.gelu(linear(state, "encoder_fuse.net.0", torch.cat(sides, dim=-1)))
    fused = two_layers(state, "encoder_fuse.net.3", "encoder_fuse.net.6", hidden, F.gelu)
    return fused + 0.5 * (tokens + ray_tokens)
