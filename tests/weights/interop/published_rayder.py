"""Small random state dicts of RayDer with the names of published weights."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class RayDerSizes:
    """(width, depth, patch) of each fine level from the finest; sizes of the middle; width of all heads."""

    levels: tuple[tuple[int, int, int], ...] = ((16, 1, 2), (32, 2, 2))
    width: int = 32
    depth: int = 2
    head: int = 16
    state_width: int = 6
    middle_patch: int = 2

    def config(self) -> dict[str, object]:
        """Return the sizes as a configuration of the published code."""
        levels = [[width, depth, [1, patch, patch]] for width, depth, patch in self.levels]
        sizes = {"width": self.width, "depth": self.depth, "d_dynamic_state": self.state_width}
        return sizes | {"down_up_configs": levels}


SIZES = RayDerSizes()
AS_PUBLISHED = "(k h) -> h k"
"""Frequencies interleaved over heads, as published."""


def rayder(sizes: RayDerSizes = SIZES, *, layout: str = AS_PUBLISHED) -> dict[str, Tensor]:
    """Return random weights scaled so that activations stay near 1, and the stored constants.

    Args:
        sizes: of the weights.
        layout: how rising frequencies are given to heads h, k of them each.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = backbone(sizes) | {
        "camera_tokens.weight": (1, sizes.width),
        "nvs_tokens.weight": (1, sizes.width),
        "view_type_embedding.weight": (3, 2 * sizes.width),
        "token_type_embedding.weight": (3, 2 * sizes.width),
        "dynamic_state_in_proj.weight": (sizes.width, sizes.state_width),
    }
    for head, numbers in (("camera_pose_head", 6), ("intrinsics_head", 1), ("dynamic_state_head", sizes.state_width)):
        shapes |= {f"{head}.norm.scale": (sizes.width,), f"{head}.out_proj.weight": (numbers, sizes.width)}
        shapes[f"{head}.out_proj.bias"] = (numbers,)
    state = {name: weight(name, shape, generator) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if name.endswith("scale") and "norm" not in name and "global" not in name:
            state |= frequencies(name.removesuffix(".scale"), shape[0], sizes.head, layout)
    return state


def weight(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if name.endswith("norm.scale"):
        return 1 + torch.randn(shape, generator=generator) / 4
    if name.endswith("scale"):  # of queries and keys: attention as sharp as with 8 to 24 in heads of 64
        return 2 + 4 * torch.rand(shape, generator=generator)
    if name.endswith("fac"):  # share of the new value in a mixture
        return 0.3 + 0.4 * torch.rand(shape, generator=generator)
    small = 4 if "head.out_proj" in name or "norm.linear" in name else 1
    return torch.randn(shape, generator=generator) / math.sqrt(shape[-1]) / small


def frequencies(attention: str, num_heads: int, head: int, layout: str) -> dict[str, Tensor]:
    """Return frequencies from pi to 10 pi in equal ratios, the same for y and x.

    Source: CompVis/rayder (f011c0a), rayder/model.py.
    """
    count = head // 8
    rising = torch.linspace(math.log(math.pi), math.log(10 * math.pi), num_heads * count + 1)[:-1].exp()
    spatial = rearrange(rising, layout, h=num_heads)
    temporal = (100.0 ** (-torch.arange(count) / count)).repeat(num_heads, 1)
    names = f"{attention}.pos_emb.spatial_freqs", f"{attention}.pos_emb.temporal_freqs"
    return dict(zip(names, (torch.stack([spatial, spatial]), temporal), strict=True))


def backbone(sizes: RayDerSizes) -> Shapes:
    shapes: Shapes = {"backbone.splits.0.norm.scale": (sizes.levels[0][0],)}
    channels = 9
    for number, (width, depth, patch) in enumerate(sizes.levels):
        shapes[f"backbone.merges.{number}.proj.weight"] = (width, channels * patch**2)
        coarser = {f"backbone.splits.{number}.proj.weight": (channels * patch**2, width)}
        finest = {"backbone.splits.0.proj.weight": (3 * patch**2, width)}
        shapes |= (coarser | {f"backbone.splits.{number}.fac": (1,)}) if number else finest
        for way in ("down", "up"):
            for block in range(depth):
                layer = f"backbone.{way}_levels.{number}.{block}"
                shapes |= attention(f"{layer}.self_attn", width, sizes) | feed_forward(f"{layer}.ff", width, sizes)
        channels = width
    cells = channels * sizes.middle_patch**2
    shapes |= {"backbone.mid_merge.proj.weight": (sizes.width, cells), "backbone.mid_split.fac": (1,)}
    shapes["backbone.mid_split.proj.weight"] = (cells, sizes.width)
    for block in range(sizes.depth):
        layer = f"backbone.mid_level.{block}"
        for part in ("global_attn", "local_attn"):
            shapes |= attention(f"{layer}.{part}", sizes.width, sizes) | register_norm(f"{layer}.{part}", sizes)
        shapes |= feed_forward(f"{layer}.ff", sizes.width, sizes) | register_norm(f"{layer}.ff", sizes)
    return shapes


def attention(name: str, width: int, sizes: RayDerSizes) -> Shapes:
    return {
        f"{name}.qkv_proj.weight": (3 * width, width),
        f"{name}.out_proj.weight": (width, width),
        f"{name}.scale": (width // sizes.head,),
        f"{name}.norm.linear.weight": (width, 2 * sizes.width),
    }


def feed_forward(name: str, width: int, sizes: RayDerSizes) -> Shapes:
    return {
        f"{name}.up_proj.weight": (6 * width, width),
        f"{name}.down_proj.weight": (width, 3 * width),
        f"{name}.norm.linear.weight": (width, 2 * sizes.width),
    }


def register_norm(name: str, sizes: RayDerSizes) -> Shapes:
    return {f"{name}.register_norm.linear.weight": (sizes.width, 2 * sizes.width)}
