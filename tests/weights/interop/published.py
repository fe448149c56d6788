"""Small random state dicts with the names of published weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WIDTH, HEAD, PATCH, LATENTS = 16, 8, 4, 5


@dataclass(frozen=True)
class Sizes:
    """Token width, width of a head, side of a patch, number of scene latents."""

    width: int = WIDTH
    head: int = HEAD
    patch: int = PATCH
    latents: int = LATENTS


SIZES = Sizes()
FOCAL = ("pose_predictor.canonical_k_head.2.weight", "pose_wrapper.fov_head.weight")
"""Kept small so that no focal length is near 0."""


def state_of(shapes: dict[str, tuple[int, ...]], *, seed: int = 0) -> dict[str, Tensor]:
    """Return random weights scaled so that activations stay near 1; vectors that are not biases are gains."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            state[name] = value / 4 + (1 if name.endswith("weight") else 0)
        else:
            state[name] = value / math.sqrt(shape[-1]) / (10 if name in FOCAL else 1)
    return state


def block(
    name: str, sizes: Sizes, *, packed: str = "to_qkv", out: str = "fc", normed: bool = True
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a transformer block."""
    width = sizes.width
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.norm1.weight": (width,),
        f"{name}.attn.{packed}.weight": (3 * width, width),
        f"{name}.attn.{out}.weight": (width, width),
        f"{name}.norm2.weight": (width,),
        f"{name}.mlp.mlp.0.weight": (4 * width, width),
        f"{name}.mlp.mlp.2.weight": (width, 4 * width),
    }
    if normed:
        shapes |= {f"{name}.attn.q_norm.weight": (sizes.head,), f"{name}.attn.k_norm.weight": (sizes.head,)}
    return shapes


def blocks(stack: str, depth: int, sizes: Sizes, **names: Any) -> dict[str, tuple[int, ...]]:
    named = [block(f"{stack}.{number}", sizes, **names) for number in range(depth)]
    return {name: shape for shapes in named for name, shape in shapes.items()}


def full_linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def rayzer_official(
    sizes: Sizes = SIZES,
    *,
    depths: tuple[int, int, int] = (1, 2, 3),
    rotation: int = 6,
    embedded: bool = True,
    normed: bool = True,
) -> dict[str, Tensor]:
    """Return RayZer weights; ``rotation`` values per rotation, ``embedded``: input_with_pe, ``normed``: use_qk_norm."""
    width, patch = sizes.width, sizes.patch**2
    shapes: dict[str, tuple[int, ...]] = {
        "scene_code": (sizes.latents, width),
        "cam_code": (1, width),
        "image_tokenizer.1.weight": (width, 3 * patch),
        "decoder_ln.weight": (width,),
        "target_pose_tokenizer.1.weight": (width, 6 * patch),
        "target_pose_tokenizer2.1.weight": (width, 6 * patch),
        "mlp_fuse.0.weight": (2 * width,),
        "image_token_decoder.0.weight": (width,),
        "image_token_decoder.1.weight": (3 * patch, width),
    }
    shapes |= full_linear("mlp_fuse.1", width, 2 * width) | full_linear("mlp_fuse.3", width, width)
    shapes |= full_linear("pose_predictor.rel_head.0", width, 2 * width)
    shapes |= full_linear("pose_predictor.rel_head.2", rotation + 3, width)
    shapes |= full_linear("pose_predictor.canonical_k_head.0", width, width)
    shapes |= full_linear("pose_predictor.canonical_k_head.2", 1, width)
    for network in ("pe_embedder", "temporal_pe_embedder") if embedded else ():
        shapes |= full_linear(f"{network}.0", width, width) | full_linear(f"{network}.2", width, width)
    for stack, depth in zip(("encoder", "encoder_geom", "decoder"), depths, strict=True):
        shapes |= blocks(f"transformer_{stack}", depth, sizes, normed=normed)
    return state_of(shapes)


def open_rayzer(
    sizes: Sizes = SIZES,
    *,
    depths: tuple[int, int, int] = (2, 1, 3),
    rotary: bool = True,
    normed: bool = True,
    fusion: str = "pixel_fuse",
    fov: bool = True,
    shared: bool = False,
) -> dict[str, Tensor]:
    """Return weights of Open-RayZer; ``shared``: decoder_as_canonical, stored under both names."""
    width, patch = sizes.width, sizes.patch**2
    names: dict[str, Any] = {"packed": "qkv", "out": "proj"} if rotary else {}
    shapes: dict[str, tuple[int, ...]] = {
        "latent_scene_tokens": (sizes.latents, width),
        "image_tokenizer.1.weight": (width, 3 * patch),
        "target_pose_tokenizer.1.weight": (width, 6 * patch),
        "image_unpatchifier.1.weight": (3 * patch, width),
    }
    for stack, depth in zip(("estimator", "encoder", "decoder"), depths, strict=True):
        shapes |= blocks(f"{stack}_blocks", depth, sizes, normed=normed, **names)
        shapes[f"{stack}_layernorm.weight"] = (width,)
    shapes |= pose_wrapper(width, fov=fov)
    shapes |= {"encoder_tokenizer.1.weight": (width, 9 * patch)} if fusion == "pixel_fuse" else mlp_fuse(width, patch)
    state = state_of(shapes)
    if shared and fusion == "feature_fuse":
        state["pose_tokenizer.1.weight"] = state["target_pose_tokenizer.1.weight"].clone()
    return state


def pose_wrapper(width: int, *, fov: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of Open-RayZer's camera head."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(2):
        for layer in (1, 2, 3):
            shapes |= full_linear(f"pose_wrapper.res_conv.{number}.res_conv{layer}", width, width)
    for layer in (0, 2):
        shapes |= full_linear(f"pose_wrapper.more_mlps.{layer}", width, width)
        shapes |= full_linear(f"pose_wrapper.fov_mlp.{layer}", width, width) if fov else {}
    shapes |= full_linear("pose_wrapper.fc_t", 3, width) | full_linear("pose_wrapper.fc_rot", 9, width)
    return shapes | (full_linear("pose_wrapper.fov_head", 1, width) if fov else {})


def mlp_fuse(width: int, patch: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of Open-RayZer's fusion of tokens and of its tokenizer of rays."""
    shapes: dict[str, tuple[int, ...]] = {"pose_tokenizer.1.weight": (width, 6 * patch)}
    for side in "ab":
        shapes |= {f"encoder_fuse.ln_{side}.weight": (width,), f"encoder_fuse.ln_{side}.bias": (width,)}
    shapes |= full_linear("encoder_fuse.net.0", 2 * width, 2 * width)
    shapes |= full_linear("encoder_fuse.net.3", 2 * width, 2 * width)
    return shapes | full_linear("encoder_fuse.net.6", width, 2 * width)


def open_rayzer_config(**changes: Any) -> dict[str, Any]:
    """Return the settings that the weights of ``open_rayzer`` do not show."""
    unposed = {"predict_fov": changes.pop("predict_fov", True)}
    return {
        "model": {"transformer": {"rope": True, "vggstyle": True, "rope_freq": 100} | changes},
        "unposed": unposed,
    }


def efficient_lvsm(sizes: Sizes = SIZES, *, depth: int = 3, normed: bool = True) -> dict[str, Tensor]:
    """Return weights of Efficient-LVSM, whose LayerNorms have none."""
    width, patch = sizes.width, sizes.patch**2
    shapes: dict[str, tuple[int, ...]] = {
        "rgbp_tokenizer.1.weight": (width, 9 * patch),
        "target_pose_tokenizer.1.weight": (width, 6 * patch),
        "image_token_decoder.1.weight": (3 * patch, width),
    }
    for number in range(depth):
        attentions = {
            f"input_self_attn_blocks.{number}.attn": {"to_qkv": 3, "fc": 1},
            f"self_cross_blocks.{number}.self_attn": {"to_qkv": 3, "fc": 1},
            f"self_cross_blocks.{number}.cross_attn": {"to_q": 1, "to_kv": 2, "fc": 1},
        }
        for name, layers in attentions.items():
            shapes |= {f"{name}.{layer}.weight": (rows * width, width) for layer, rows in layers.items()}
            if normed:
                shapes |= {f"{name}.{kind}_norm.weight": (sizes.head,) for kind in "qk"}
        for stack in ("input_self_attn_blocks", "self_cross_blocks"):
            shapes[f"{stack}.{number}.mlp.mlp.0.weight"] = (4 * width, width)
            shapes[f"{stack}.{number}.mlp.mlp.2.weight"] = (width, 4 * width)
    return state_of(shapes)


def lvsm(
    sizes: Sizes = SIZES, *, depths: tuple[int, int] | None = None, decoder_only: bool = False, normed: bool = True
) -> dict[str, Tensor]:
    """Return weights of LVSM; ``depths``: of encoder and decoder, 0 for the encoder of the decoder-only variant."""
    width, patch = sizes.width, sizes.patch**2
    encoder, decoder = depths or ((0, 3) if decoder_only else (2, 1))
    shapes: dict[str, tuple[int, ...]] = {
        "image_tokenizer.1.weight": (width, 9 * patch),
        "target_pose_tokenizer.1.weight": (width, 6 * patch),
        "image_token_decoder.0.weight": (width,),
        "image_token_decoder.1.weight": (3 * patch, width),
    }
    if decoder_only:
        shapes["transformer_input_layernorm.weight"] = (width,)
        return state_of(shapes | blocks("transformer_blocks", decoder, sizes, normed=normed))
    shapes |= {"n_light_field_latent": (sizes.latents, width), "transformer_input_layernorm_decoder.weight": (width,)}
    shapes |= blocks("transformer_encoder", encoder, sizes, normed=normed)
    return state_of(shapes | blocks("transformer_decoder", decoder, sizes, normed=normed))
