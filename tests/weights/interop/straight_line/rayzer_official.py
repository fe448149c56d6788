"""RayZer, released by its authors, in plain torch.

Source: hwjiang1510/RayZer (c34ca41), model/rayzer.py and utils/pe_utils.py; Jiang et al. 2025, "RayZer".
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from straight_line.common import (
    State,
    c2w_of,
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

FOCAL_BIAS = 1.25


def forward(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute render, c2w, fxfycxcy (divided by the sides of the image) and loss. Source: model/rayzer.py:285-381."""
    model, images = config["model"], inputs["image"]
    head, patch = model["transformer"]["d_head"], model["image_tokenizer"]["patch_size"]
    num_views, size = images.shape[1], images.shape[-2:]
    middle = model["pose_latent"].get("canonical", "first") == "middle"

    tokens = image_tokens(state, images, patch)
    seen = torch.cat([camera_tokens(state, images), rearrange(tokens, "b v n d -> b (v n) d")], dim=1)
    cameras = stack(state, "transformer_encoder", seen, head=head)[:, :num_views]
    c2w, focal = camera_head(state, cameras, canonical=num_views // 2 if middle else 0)
    fxfycxcy = torch.cat([repeat(focal, "b 1 -> b v 2", v=num_views), torch.full((*c2w.shape[:2], 2), 0.5)], dim=-1)
    rays = patches(plucker(c2w, fxfycxcy * torch.tensor([size[1], size[0], size[1], size[0]]), size), patch)

    context, target = inputs["input_idx"], inputs["target_idx"]
    context_rays = linear(state, "target_pose_tokenizer.1", of_views(rays, context))
    fused = layer_norm(state, "mlp_fuse.0", torch.cat([of_views(tokens, context), context_rays], dim=-1))
    fused = two_layers(state, "mlp_fuse.1", "mlp_fuse.3", fused, F.silu)
    latents = repeat(state["scene_code"], "k d -> b k d", b=images.shape[0])
    scene = torch.cat([latents, rearrange(fused, "b v n d -> b (v n) d")], dim=1)
    scene = stack(state, "transformer_encoder_geom", scene, head=head)[:, : latents.shape[1]]

    targets = linear(state, "target_pose_tokenizer2.1", of_views(rays, target))
    read = layer_norm(state, "decoder_ln", per_target(scene, targets))
    read = stack(state, "transformer_decoder", read, head=head)[:, : targets.shape[2]]
    columns = linear(state, "image_token_decoder.1", layer_norm(state, "image_token_decoder.0", read))
    render = pixels(rearrange(columns, "(b v) n c -> b v n c", v=targets.shape[1]), patch, size)
    return with_loss(render, of_views(images, target)) | {"c2w": c2w, "fxfycxcy": fxfycxcy}


def of_views(x: Float[Tensor, "b v *rest"], index: Int[Tensor, "rows chosen"]) -> Float[Tensor, "b chosen *rest"]:
    """Select views by indices, one row for the whole batch or one row for each clip."""
    clips = torch.arange(x.shape[0])[:, None]
    return x[clips, index.expand(x.shape[0], -1)]


def image_tokens(state: State, images: Float[Tensor, "b v 3 h w"], patch: int) -> Float[Tensor, "b v n d"]:
    """Return tokens of patches of pixels in [-1, 1], with position codes unless ``input_with_pe`` is off.

    Source: model/rayzer.py:442-497.
    """
    tokens = linear(state, "image_tokenizer.1", patches(images * 2 - 1, patch))
    if "pe_embedder.0.weight" not in state:
        return tokens
    num_views, num_tokens, width = tokens.shape[1:]
    place = places(images.shape[-2] // patch, images.shape[-1] // patch, width // 2)
    view = sinusoids(torch.arange(num_views), width // 2)
    code = torch.cat([repeat(place, "n d -> v n d", v=num_views), repeat(view, "v d -> v n d", n=num_tokens)], dim=-1)
    return tokens + two_layers(state, "pe_embedder.0", "pe_embedder.2", code, F.silu)


def camera_tokens(state: State, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v d"]:
    """Return camera tokens: one learned token for all views plus a code of the view's index.

    Source: model/rayzer.py:442-497.
    """
    code = sinusoids(torch.arange(images.shape[1]), state["cam_code"].shape[1])
    if "temporal_pe_embedder.0.weight" in state:
        code = two_layers(state, "temporal_pe_embedder.0", "temporal_pe_embedder.2", code, F.silu)
    return repeat(state["cam_code"] + code, "v d -> b v d", b=images.shape[0])


def sinusoids(position: Int[Tensor, " n"], width: int) -> Float[Tensor, "n width"]:
    """Return position codes: all sines, then all cosines. Source: utils/pe_utils.py:6-93."""
    frequency = 10000.0 ** (-torch.arange(width // 2) / (width / 2))
    angle = position[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def places(rows: int, columns: int, width: int) -> Float[Tensor, "n width"]:
    """Return codes of patches; the grid is counted by columns, although its tokens are in rows.

    On a square grid, "x" is then the row. On other grids the published codes are scrambled.

    Source: utils/pe_utils.py:6-93, ``meshgrid(arange(w), arange(h), indexing="ij")``.
    """
    first = repeat(torch.arange(columns), "x -> (x y)", y=rows)
    second = repeat(torch.arange(rows), "y -> (x y)", x=columns)
    return torch.cat([sinusoids(first, width // 2), sinusoids(second, width // 2)], dim=-1)


def camera_head(
    state: State, cameras: Float[Tensor, "b v d"], *, canonical: int
) -> tuple[Float[Tensor, "b v 4 4"], Float[Tensor, "b 1"]]:
    """Return poses relative to the canonical view and one focal length. Source: model/rayzer.py:716-810."""
    chosen = cameras[:, canonical]
    pairs = torch.cat([repeat(chosen, "b d -> b v d", v=cameras.shape[1]), cameras], dim=-1)
    relative = two_layers(state, "pose_predictor.rel_head.0", "pose_predictor.rel_head.2", pairs, F.silu)
    others = (torch.arange(cameras.shape[1]) != canonical)[:, None]
    *numbers, x, y, z = (relative * others).unbind(dim=-1)
    rotation = torch.stack(numbers, dim=-1)
    matrix = rotation_of_6(rotation) if len(numbers) == 6 else rotation_of_quaternion(rotation)
    c2w = c2w_of(matrix, torch.stack([x, y, z], dim=-1))
    names = "pose_predictor.canonical_k_head.0", "pose_predictor.canonical_k_head.2"
    return c2w, two_layers(state, *names, chosen, F.silu) + FOCAL_BIAS


def rotation_of_6(change: Float[Tensor, "b v 6"]) -> Float[Tensor, "b v 3 3"]:
    """Orthonormalise two columns, predicted as change from the identity (Gram-Schmidt).

    Source: model/rayzer.py:649-672.
    """
    first, second = (change + torch.tensor([1.0, 0, 0, 0, 1, 0])).split(3, dim=-1)
    first = F.normalize(first, dim=-1)
    second = F.normalize(second - (first * second).sum(dim=-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def rotation_of_quaternion(change: Float[Tensor, "b v 4"]) -> Float[Tensor, "b v 3 3"]:
    """Normalise a quaternion (w, x, y, z), predicted as change from the identity. Source: model/rayzer.py:649-672."""
    w, x, y, z = F.normalize(change + torch.tensor([1.0, 0, 0, 0]), dim=-1).unbind(dim=-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=-1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], dim=-1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)
