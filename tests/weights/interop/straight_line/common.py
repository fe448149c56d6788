"""Shared by LVSM, RayZer and Open-RayZer: blocks, patches and rays in plain torch.

The code in this folder was written from descriptions of the published code; nothing was copied. The tests compare the
project with it, so it does not import ``openrayzer``.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor

State = Mapping[str, Tensor]
"""Weights under the names of the published code."""
Rotate = Callable[[Float[Tensor, "b h n e"]], Float[Tensor, "b h n e"]]
"""Rotates queries or keys by their positions."""


def linear(state: State, name: str, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
    """Linear layer, with a bias if there is one."""
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def two_layers(
    state: State, first: str, second: str, x: Float[Tensor, "... i"], activation: Callable[[Tensor], Tensor]
) -> Float[Tensor, "... o"]:
    return linear(state, second, activation(linear(state, first, x)))


def layer_norm(state: State, name: str, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """LayerNorm with eps 1e-5, and a bias if there is one."""
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state.get(f"{name}.bias"), 1e-5)


def stack(
    state: State,
    name: str,
    x: Float[Tensor, "b n d"],
    *,
    head: int,
    eps: float = 1e-5,
    rotate: Rotate | None = None,
) -> Float[Tensor, "b n d"]:
    """Apply all blocks of ``name``, without a norm before or after."""
    for number in range(depth_of(state, name)):
        x = block(state, f"{name}.{number}", x, head=head, eps=eps, rotate=rotate)
    return x


def depth_of(state: State, name: str) -> int:
    start = f"{name}."
    return 1 + max(int(key.removeprefix(start).split(".")[0]) for key in state if key.startswith(start))


def block(
    state: State, name: str, x: Float[Tensor, "b n d"], *, head: int, eps: float, rotate: Rotate | None
) -> Float[Tensor, "b n d"]:
    """Transformer block with pre-norms and exact GELU.

    Source: hwjiang1510/RayZer, model/transformer.py.
    """
    seen = layer_norm(state, f"{name}.norm1", x)
    x = x + attention(state, f"{name}.attn", seen, head=head, eps=eps, rotate=rotate)
    seen = layer_norm(state, f"{name}.norm2", x)
    return x + two_layers(state, f"{name}.mlp.mlp.0", f"{name}.mlp.mlp.2", seen, F.gelu)


def attention(
    state: State, name: str, x: Float[Tensor, "b n d"], *, head: int, eps: float, rotate: Rotate | None
) -> Float[Tensor, "b n d"]:
    """Attention; rows of the packed weight are [q | k | v], each by heads. q and k get an RMS norm if it has weights.

    Args:
        head: width of one head e.
        eps: of the RMS norm.
        rotate: of normalised queries and keys.

    Source: hwjiang1510/RayZer, model/transformer.py; the second names are Open-RayZer's with rotary encoding.
    """
    packed, out = ("to_qkv", "fc") if f"{name}.to_qkv.weight" in state else ("qkv", "proj")
    together = linear(state, f"{name}.{packed}", x)
    query, key, value = rearrange(together, "b n (three h e) -> three b h n e", three=3, e=head)
    if f"{name}.q_norm.weight" in state:
        query = rms_norm(query, state[f"{name}.q_norm.weight"], eps=eps)
        key = rms_norm(key, state[f"{name}.k_norm.weight"], eps=eps)
    if rotate is not None:
        query, key = rotate(query), rotate(key)
    shares = (einsum(query, key, "b h i e, b h j e -> b h i j") / math.sqrt(head)).softmax(dim=-1)
    read = einsum(shares, value, "b h i j, b h j e -> b h i e")
    return linear(state, f"{name}.{out}", rearrange(read, "b h n e -> b n (h e)"))


def rms_norm(x: Float[Tensor, "... e"], gain: Float[Tensor, "... e"], *, eps: float) -> Float[Tensor, "... e"]:
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * gain


def patches(images: Float[Tensor, "b v c h w"], patch: int) -> Float[Tensor, "b v n ppc"]:
    """Cut images into patches, row by row; within a patch the channel varies fastest.

    Source: hwjiang1510/RayZer, model/rayzer.py.
    """
    return rearrange(images, "b v c (y p1) (x p2) -> b v (y x) (p1 p2 c)", p1=patch, p2=patch)


def pixels(columns: Float[Tensor, "b v n ppc"], patch: int, size: tuple[int, int]) -> Float[Tensor, "b v c h w"]:
    """Apply a sigmoid and the inverse of ``patches``. Source: hwjiang1510/RayZer, model/rayzer.py."""
    sizes = {"y": size[0] // patch, "x": size[1] // patch, "p1": patch, "p2": patch}
    return rearrange(columns.sigmoid(), "b v (y x) (p1 p2 c) -> b v c (y p1) (x p2)", **sizes)


def plucker(
    c2w: Float[Tensor, "b v 4 4"], fxfycxcy: Float[Tensor, "b v 4"], size: tuple[int, int]
) -> Float[Tensor, "b v 6 h w"]:
    """Plücker rays (o × d, d), |d| = 1, through pixel centres at +0.5; intrinsics in pixels.

    Source: hwjiang1510/RayZer, model/rayzer.py:674-713.
    """
    height, width = size
    fx, fy, cx, cy = rearrange(fxfycxcy, "b v four -> four b v 1 1", four=4)
    across = (repeat(torch.arange(width) + 0.5, "w -> h w", h=height) - cx) / fx
    down = (repeat(torch.arange(height) + 0.5, "h -> h w", w=width) - cy) / fy
    seen = torch.stack([across, down, torch.ones_like(across)], dim=2)  # (b, v, 3, h, w)
    direction = einsum(c2w[..., :3, :3], seen, "b v i j, b v j h w -> b v i h w")
    direction = direction / direction.norm(dim=2, keepdim=True)
    origin = repeat(c2w[..., :3, 3], "b v i -> b v i h w", h=height, w=width)
    return torch.cat([torch.linalg.cross(origin, direction, dim=2), direction], dim=2)


def c2w_of(rotation: Float[Tensor, "b v 3 3"], translation: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 4 4"]:
    last = torch.tensor([0.0, 0, 0, 1]).expand(*translation.shape[:2], 1, 4)
    return torch.cat([torch.cat([rotation, translation[..., None]], dim=-1), last], dim=-2)


def per_target(
    scene: Float[Tensor, "b k d"], targets: Float[Tensor, "b v n d"], *, targets_first: bool = True
) -> Float[Tensor, "bv m d"]:
    """Repeat for each target view, so that targets do not attend to each other."""
    repeated = repeat(scene, "b k d -> (b v) k d", v=targets.shape[1])
    asked = rearrange(targets, "b v n d -> (b v) n d")
    return torch.cat([asked, repeated] if targets_first else [repeated, asked], dim=1)


def with_loss(render: Float[Tensor, "b v c h w"], truth: Float[Tensor, "b v c h w"]) -> dict[str, Tensor]:
    """Return the rendered images and their mean squared error; images in [0, 1]."""
    return {"render": render, "loss": (render - truth).square().mean()}
