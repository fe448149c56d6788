"""Small state dicts under the names that published code uses, written from the lists of its weights."""

from typing import Any

import torch
from torch import Tensor

WIDTH, HEAD, PATCH, LATENTS = 16, 8, 4, 5


def state_of(shapes: dict[str, tuple[int, ...]], *, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of these shapes; gains around 1."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) / 4
        state[name] = value + 1 if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else value
    return state


def block(name: str, *, packed: str = "to_qkv", out: str = "fc", normed: bool = True) -> dict[str, tuple[int, ...]]:
    """One transformer block."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.norm1.weight": (WIDTH,),
        f"{name}.attn.{packed}.weight": (3 * WIDTH, WIDTH),
        f"{name}.attn.{out}.weight": (WIDTH, WIDTH),
        f"{name}.norm2.weight": (WIDTH,),
        f"{name}.mlp.mlp.0.weight": (4 * WIDTH, WIDTH),
        f"{name}.mlp.mlp.2.weight": (WIDTH, 4 * WIDTH),
    }
    if normed:
        shapes |= {f"{name}.attn.q_norm.weight": (HEAD,), f"{name}.attn.k_norm.weight": (HEAD,)}
    return shapes


def blocks(stack: str, depth: int, **names: Any) -> dict[str, tuple[int, ...]]:
    return {name: shape for number in range(depth) for name, shape in block(f"{stack}.{number}", **names).items()}


def full_linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def rayzer_official(*, rotation: int = 6, embedded: bool = True, normed: bool = True) -> dict[str, Tensor]:
    """``rotation`` numbers of a rotation; ``embedded``: input_with_pe; ``normed``: use_qk_norm."""
    patch = PATCH**2
    shapes: dict[str, tuple[int, ...]] = {
        "scene_code": (LATENTS, WIDTH),
        "cam_code": (1, WIDTH),
        "image_tokenizer.1.weight": (WIDTH, 3 * patch),
        "decoder_ln.weight": (WIDTH,),
        "target_pose_tokenizer.1.weight": (WIDTH, 6 * patch),
        "target_pose_tokenizer2.1.weight": (WIDTH, 6 * patch),
        "mlp_fuse.0.weight": (2 * WIDTH,),
        "image_token_decoder.0.weight": (WIDTH,),
        "image_token_decoder.1.weight": (3 * patch, WIDTH),
    }
    shapes |= full_linear("mlp_fuse.1", WIDTH, 2 * WIDTH) | full_linear("mlp_fuse.3", WIDTH, WIDTH)
    shapes |= full_linear("pose_predictor.rel_head.0", WIDTH, 2 * WIDTH)
    shapes |= full_linear("pose_predictor.rel_head.2", rotation + 3, WIDTH)
    shapes |= full_linear("pose_predictor.canonical_k_head.0", WIDTH, WIDTH)
    shapes |= full_linear("pose_predictor.canonical_k_head.2", 1, WIDTH)
    for network in ("pe_embedder", "temporal_pe_embedder") if embedded else ():
        shapes |= full_linear(f"{network}.0", WIDTH, WIDTH) | full_linear(f"{network}.2", WIDTH, WIDTH)
    shapes |= blocks("transformer_encoder", 1, normed=normed) | blocks("transformer_encoder_geom", 2, normed=normed)
    return state_of(shapes | blocks("transformer_decoder", 3, normed=normed))


def open_rayzer(
    *, rotary: bool = True, fusion: str = "pixel_fuse", fov: bool = True, shared: bool = False
) -> dict[str, Tensor]:
    """``shared``: decoder_as_canonical, with the shared weights under both names."""
    patch = PATCH**2
    names = {"packed": "qkv", "out": "proj"} if rotary else {}
    shapes: dict[str, tuple[int, ...]] = {
        "latent_scene_tokens": (LATENTS, WIDTH),
        "image_tokenizer.1.weight": (WIDTH, 3 * patch),
        "target_pose_tokenizer.1.weight": (WIDTH, 6 * patch),
        "image_unpatchifier.1.weight": (3 * patch, WIDTH),
    }
    for stack, depth in (("estimator", 2), ("encoder", 1), ("decoder", 3)):
        shapes |= blocks(f"{stack}_blocks", depth, **names) | {f"{stack}_layernorm.weight": (WIDTH,)}
    for number in range(2):
        for layer in (1, 2, 3):
            shapes |= full_linear(f"pose_wrapper.res_conv.{number}.res_conv{layer}", WIDTH, WIDTH)
    for layer in (0, 2):
        shapes |= full_linear(f"pose_wrapper.more_mlps.{layer}", WIDTH, WIDTH)
        shapes |= full_linear(f"pose_wrapper.fov_mlp.{layer}", WIDTH, WIDTH) if fov else {}
    shapes |= full_linear("pose_wrapper.fc_t", 3, WIDTH) | full_linear("pose_wrapper.fc_rot", 9, WIDTH)
    shapes |= full_linear("pose_wrapper.fov_head", 1, WIDTH) if fov else {}
    if fusion == "pixel_fuse":
        shapes["encoder_tokenizer.1.weight"] = (WIDTH, 9 * patch)
    else:
        shapes["pose_tokenizer.1.weight"] = (WIDTH, 6 * patch)
        shapes |= full_linear("encoder_fuse.ln_a", WIDTH, 1) | full_linear("encoder_fuse.ln_b", WIDTH, 1)
        shapes |= {f"encoder_fuse.ln_{side}.weight": (WIDTH,) for side in "ab"}
        shapes |= full_linear("encoder_fuse.net.0", 2 * WIDTH, 2 * WIDTH)
        shapes |= full_linear("encoder_fuse.net.3", 2 * WIDTH, 2 * WIDTH)
        shapes |= full_linear("encoder_fuse.net.6", WIDTH, 2 * WIDTH)
    state = state_of(shapes)
    if shared:
        state["pose_tokenizer.1.weight"] = state["target_pose_tokenizer.1.weight"].clone()
    return state


def open_rayzer_config(**changes: Any) -> dict[str, Any]:
    """What the weights of ``open_rayzer`` do not show."""
    unposed = {"predict_fov": changes.pop("predict_fov", True)}
    return {
        "model": {"transformer": {"rope": True, "vggstyle": True, "rope_freq": 100} | changes},
        "unposed": unposed,
    }


def lvsm(*, decoder_only: bool = False) -> dict[str, Tensor]:
    patch = PATCH**2
    shapes: dict[str, tuple[int, ...]] = {
        "image_tokenizer.1.weight": (WIDTH, 9 * patch),
        "target_pose_tokenizer.1.weight": (WIDTH, 6 * patch),
        "image_token_decoder.0.weight": (WIDTH,),
        "image_token_decoder.1.weight": (3 * patch, WIDTH),
    }
    if decoder_only:
        return state_of(shapes | blocks("transformer_blocks", 3) | {"transformer_input_layernorm.weight": (WIDTH,)})
    shapes |= {"n_light_field_latent": (LATENTS, WIDTH), "transformer_input_layernorm_decoder.weight": (WIDTH,)}
    return state_of(shapes | blocks("transformer_encoder", 2) | blocks("transformer_decoder", 1))
