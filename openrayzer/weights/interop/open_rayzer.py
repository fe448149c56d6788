"""Open-RayZer, with every configuration that its code supports."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from openrayzer.geometry.intrinsics import focal_to_fov
from openrayzer.interfaces import Model
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.naming import depth_of, linear, paired, published_names, rename, shape_of
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.trunk import (
    PACKED,
    BlockNames,
    Trunk,
    first_and_last,
    images_of,
    is_normed,
    patch_size_of,
    predicted,
    read_trunk,
    view_counts,
    views_of,
)

STACKS = {"estimator": "estimator", "encoder": "scene.encoder", "decoder": "scene.renderer.stack"}
FUSIONS = {"encoder_tokenizer.": "pixel_fuse", "encoder_fuse.": "feature_fuse"}
"""Fusion by the prefix of weights that only this fusion has."""


class OpenRayZer(System):
    """Open-RayZer: rotary encoding, alternating attention, absolute poses by SVD, one field of view per scene."""

    name = "open-rayzer"
    experiment = "rayzer_dl3dv.json"
    fingerprint = ("latent_scene_tokens",)
    title = "Open-RayZer (github.com/ou524u/Open-Rayzer)"
    license = "unknown"

    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        rotary = _rotary(state, configuration)
        depths = {
            stack: configuration.agree(f"model.transformer.{stack}_depth", depth_of(state, f"{stack}_blocks"))
            for stack in STACKS
        }
        fusion = _fusion(state, configuration)
        shared = _shares_ray_tokens(state, fusion, configuration)
        predicts_fov = _predicts_fov(state, configuration)
        names = _names(_block_names(state), depths, fusion, predicts_fov=predicts_fov, shared=shared)
        unused, notes = _unused(state, predicts_fov=predicts_fov, shared=shared)
        weights = rename({name: value for name, value in state.items() if name not in unused}, names)
        trunk = read_trunk(state, "estimator_blocks.0", configuration)
        configuration.agree("model.transformer.n_latent_vectors", shape_of(state, "latent_scene_tokens")[0])
        patch_size = configuration.agree(
            "model.tokenizer.patch_size", patch_size_of(state, "image_tokenizer.1.weight", channels=3)
        )
        model = {
            "type": "rayzer",
            "num_latents": shape_of(state, "latent_scene_tokens")[0],
            **_tokens(trunk, patch_size, fusion),
            **_attention(trunk, depths, configuration, rotary=rotary),
            "camera_head": {
                "type": "pi3",
                "width": trunk.width,
                "field_of_view": "softplus" if predicts_fov else "fixed",
                "fov_spans": "height",
            },
            "intrinsics": "predicted" if predicts_fov else "given",
            "num_camera_tokens": 0,
            "share_ray_tokens": shared,
            "input_norms": True,
            "pixel_norm_gain": False,
            "activation_checkpointing": 1,
        }
        configuration.check()
        side = configuration.get("model.image_tokenizer.image_size", 0)
        size = (f"data.image_size=[{side}, {side}]",) if side else ()
        return Imported(model, weights, published_names(names), (*size, *view_counts(configuration)), notes)

    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute render, c2w, fov (radians, one per scene) and loss."""
        num_views = images_of(inputs).shape[1]
        views = views_of(inputs, *first_and_last(configuration, num_views), posed=model.needs_intrinsics)
        prediction, outputs = predicted(model, views, configuration)
        cameras = prediction.cameras
        return outputs | {"c2w": cameras.c2w, "fov": focal_to_fov(cameras.intrinsics[:, :1, 1])}


def _rotary(state: Mapping[str, Tensor], configuration: Configuration) -> bool:
    """Return True for rotary position encoding; blocks with LVSM's names never use it."""
    if _is_lvsm_block(state):
        return configuration.agree("model.transformer.rope", False)
    return configuration.ask("model.transformer.rope", (True, False), "rotary position encoding")


def _is_lvsm_block(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith(f".attn.{PACKED}.weight") for name in state)


def _block_names(state: Mapping[str, Tensor]) -> BlockNames:
    normed = is_normed(state)
    return BlockNames(normed) if _is_lvsm_block(state) else BlockNames(normed, packed="qkv", out="proj")


def _fusion(state: Mapping[str, Tensor], configuration: Configuration) -> str:
    found = [fusion for start, fusion in FUSIONS.items() if any(name.startswith(start) for name in state)]
    if len(found) != 1:
        configuration.problem(
            f"the weights have {' and '.join(found) or 'no known fusion'}, expected exactly one fusion"
        )
        return "pixel_fuse"
    return configuration.agree("unposed.fusion_strategy", found[0])


def _shares_ray_tokens(state: Mapping[str, Tensor], fusion: str, configuration: Configuration) -> bool:
    """Return True if one tokenizer serves all rays; the second one is then an exact copy or is not stored."""
    if fusion == "pixel_fuse":  # has only one tokenizer of rays
        return False
    key, meaning = "unposed.decoder_as_canonical", "one tokenizer for context and target rays"
    first, second = state.get("target_pose_tokenizer.1.weight"), state.get("pose_tokenizer.1.weight")
    if first is None or second is None:
        return configuration.ask(key, (True, False), meaning)
    return configuration.agree(key, torch.equal(first, second))


def _predicts_fov(state: Mapping[str, Tensor], configuration: Configuration) -> bool:
    if not any(name.startswith("pose_wrapper.fov_") for name in state):
        return configuration.agree("unposed.predict_fov", False)
    return configuration.ask("unposed.predict_fov", (True, False), "whether the field of view is predicted or given")


def _tokens(trunk: Trunk, patch_size: int, fusion: str) -> dict[str, Any]:
    """Return the settings of tokenizer and fusion; pixels stay in [0, 1]."""
    sizes = {"width": trunk.width, "patch_size": patch_size}
    pixels = {"pixel_range": [0.0, 1.0]}
    by_pixel = fusion == "pixel_fuse"
    return {
        **sizes,
        "tokenizer": {"type": "linear", **sizes, **pixels},
        "fusion": {"type": "pixel", **sizes, **pixels} if by_pixel else {"type": "residual_mlp", **sizes},
    }


def _attention(
    trunk: Trunk, depths: Mapping[str, int], configuration: Configuration, *, rotary: bool
) -> dict[str, Any]:
    """Return the settings of all stacks.

    Without rotary encoding or without "vggstyle", the published estimator attends within single views only.
    """
    style = configuration.ask(
        "model.transformer.vggstyle", (True, False), "global and frame attention alternate in the estimator"
    )
    base = 100.0
    if rotary:
        base = configuration.number("model.transformer.rope_freq", "base of the rotary frequencies", otherwise=base)
    alternating = rotary and style
    norm = {"mlp_ratio": trunk.mlp_ratio, "qk_norm_eps": trunk.qk_norm_eps(1e-5 if rotary else 1e-3)}
    return {
        "num_heads": trunk.num_heads,
        "position_encoding": {"type": "rope2d", "base": base} if rotary else {"type": "none"},
        "layout": {"type": "vggt_alternating", "first": "global"} if alternating else {"type": "frame"},
        "poses_from_single_images": not alternating,
        "renderer": {
            "type": "joint",
            "width": trunk.width,
            "num_heads": trunk.num_heads,
            "depth": depths["decoder"],
            **norm,
        },
        "attention": {"type": "auto"},
        "estimator_depth": depths["estimator"],
        "encoder_depth": depths["encoder"],
        **norm,
    }


def _names(
    block_names: BlockNames, depths: Mapping[str, int], fusion: str, *, predicts_fov: bool, shared: bool
) -> dict[str, str]:
    names = {
        "latent_scene_tokens": "scene.latents",
        "image_tokenizer.1.weight": "tokenizer.patches.linear.weight",
        "target_pose_tokenizer.1.weight": "scene.target_rays.linear.weight",
        "image_unpatchifier.1.weight": "scene.pixels.linear.weight",
        "estimator_layernorm.weight": "estimator.input_norm.weight",
        "encoder_layernorm.weight": "scene.encoder.input_norm.weight",
        "decoder_layernorm.weight": "scene.renderer.norm.weight",
    }
    for stack, ours in STACKS.items():
        names |= block_names.of(f"{stack}_blocks", f"{ours}.blocks", depths[stack])
    return names | _head_names(predicts_fov=predicts_fov) | _fusion_names(fusion, shared=shared)


def _head_names(*, predicts_fov: bool) -> dict[str, str]:
    names = linear("pose_wrapper.fc_t", "camera_head.translation") | linear(
        "pose_wrapper.fc_rot", "camera_head.rotation"
    )
    for block in range(2):
        for layer in range(3):
            published = f"pose_wrapper.res_conv.{block}.res_conv{layer + 1}"
            names |= linear(published, f"camera_head.token_blocks.{block}.layers.{2 * layer}")
    for layer in (0, 2):
        names |= linear(f"pose_wrapper.more_mlps.{layer}", f"camera_head.view_layers.{layer}")
        if predicts_fov:
            names |= linear(f"pose_wrapper.fov_mlp.{layer}", f"camera_head.fov_layers.{layer}")
    return names | (linear("pose_wrapper.fov_head", "camera_head.fov") if predicts_fov else {})


def _fusion_names(fusion: str, *, shared: bool) -> dict[str, str]:
    if fusion == "pixel_fuse":
        return linear("encoder_tokenizer.1", "fusion.patches.linear", bias=False)
    names = linear("encoder_fuse.ln_a", "fusion.image_norm") | linear("encoder_fuse.ln_b", "fusion.ray_norm")
    for ours, layer in ((0, 0), (2, 3), (4, 6)):
        names |= linear(f"encoder_fuse.net.{layer}", f"fusion.network.{ours}")
    own_rays = paired("pose_tokenizer.1", "fusion.rays.linear", {"weight": "weight"})
    return names if shared else names | own_rays


def _unused(state: Mapping[str, Tensor], *, predicts_fov: bool, shared: bool) -> tuple[set[str], tuple[str, ...]]:
    """Return weights that the published model does not use, and a note on each kind."""
    unused, notes = set(), []
    fov = {name for name in state if name.startswith("pose_wrapper.fov_")}
    if fov and not predicts_fov:
        unused |= fov
        notes.append("the network for the field of view is left out: the model is given intrinsics")
    if shared and "pose_tokenizer.1.weight" in state:
        unused.add("pose_tokenizer.1.weight")
        notes.append("pose_tokenizer equals target_pose_tokenizer (decoder_as_canonical) and is stored once")
    return unused, tuple(notes)
