"""E-RayZer, the released weights."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from openrayzer.interfaces import GaussianScene, InputError, Model
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.naming import depth_of, linear, published_names, rename, shape_of
from openrayzer.weights.interop.rayzer_official import configured_image_size, relative_head, square_patch_size
from openrayzer.weights.interop.recorded_loss import recorded_loss
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.trunk import (
    BlockNames,
    Trunk,
    is_normed,
    read_trunk,
    recorded_roles,
    view_counts,
    views_of,
)

STACKS = {"transformer_encoder": "estimator.blocks", "transformer_encoder_geom": "scene.encoder.blocks"}
DEPTH_KEYS = {"transformer_encoder": "encoder_n_layer", "transformer_encoder_geom": "encoder_geom_n_layer"}
DECODER = "image_token_decoder.1.weight"
"""Published name of the linear layer from tokens to Gaussians."""
OTHER_VALUES = 11
"""Number of values of a Gaussian beside its spherical harmonics."""
PADDED_VIEWS = 10
"""The published code adds copies of the last view to shorter lists."""


class ERayZerWeights(System):
    """Released E-RayZer: attention within and across views in turn, cameras relative to one view, Gaussians."""

    name = "erayzer"
    experiment = "erayzer_dl3dv.json"
    fingerprint = ("input_pose_tokenizer.1.weight", "register_token")
    title = "E-RayZer (Zhao et al. 2026), the released code"
    license = "other"

    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        embedded = configuration.agree("model.input_with_pe", any("pe_embedder." in name for name in state))
        depths = {
            stack: configuration.agree(f"model.transformer.{DEPTH_KEYS[stack]}", depth_of(state, stack))
            for stack in STACKS
        }
        names = _names(BlockNames(is_normed(state)), depths, embedded=embedded)
        weights = rename(_with_one_token_weight(state), names)
        trunk = read_trunk(state, "transformer_encoder.0", configuration)
        patch_size = square_patch_size(state, configuration)
        _check_pairwise(state, trunk, configuration)
        sizes = {"width": trunk.width, "patch_size": patch_size}
        positions = _position_encoding(trunk, embedded=embedded)
        model: dict[str, Any] = {
            "type": "erayzer",
            **sizes,
            "num_heads": trunk.num_heads,
            "tokenizer": {"type": "linear", **sizes},
            "position_encoding": positions,
            "layout": {"type": "vggt_alternating", "first": "frame"},
            "camera_head": relative_head(state, trunk, configuration) | {"focal_bias": False, "initial_std": 0.02},
            "fusion": {"type": "token_mlp", **sizes, "ray_positions": positions if embedded else None},
            "renderer": {"type": "gaussians", **sizes, **_gaussians(state, patch_size, configuration)},
            "attention": {"type": "auto"},
            "estimator_depth": depths["transformer_encoder"],
            "encoder_depth": depths["transformer_encoder_geom"],
            "encoder": "alternating",
            "num_camera_tokens": shape_of(state, "camera_token", rank=3)[1],
            "num_register_tokens": shape_of(state, "register_token", rank=3)[1],
            "mlp_ratio": trunk.mlp_ratio,
            "qk_norm_eps": trunk.qk_norm_eps(1e-5),
            "activation_checkpointing": 1,
        }
        configuration.check()
        changes = (*configured_image_size(configuration), *view_counts(configuration))
        note = (
            f"the published code adds copies of the last view to fewer than {PADDED_VIEWS} views; "
            f"for the same cameras, import with --set model.min_estimated_views={PADDED_VIEWS}"
        )
        return Imported(model, weights, published_names(names), changes, (note,))

    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute cameras, Gaussians, render and loss, with copies of the last view as in the published code."""
        views = views_of(inputs, *recorded_roles(inputs), posed=False)
        model.min_estimated_views = PADDED_VIEWS  # type: ignore[assignment]
        cameras = model.estimate(views.images)
        scene = model.reconstruct(views.context_images, cameras.select(views.context), views.context)
        if not isinstance(scene, GaussianScene):
            raise InputError(f"{type(model).__name__} makes no Gaussians")
        render = model.render(scene, cameras.select(views.target))
        gaussians = scene.gaussians
        return {
            "c2w": cameras.c2w,
            "fxfycxcy": cameras.intrinsics,
            "means": gaussians.means,
            "scales": gaussians.scales,
            "rotations": gaussians.rotations,
            "opacities": gaussians.opacities[..., None],
            "sh": gaussians.harmonics,
            "render": render,
            "loss": recorded_loss(render.clamp(0, 1), views.target_images, configuration),
        }


def _with_one_token_weight(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join camera and register tokens, (1, c, d) each, in one weight."""
    tokens = torch.cat([state["camera_token"], state["register_token"]], dim=1)[0]
    return {name: value for name, value in state.items() if name != "register_token"} | {"camera_token": tokens}


def _check_pairwise(state: Mapping[str, Tensor], trunk: Trunk, configuration: Configuration) -> None:
    if shape_of(state, "pose_predictor.rel_head.0.weight")[1] != 2 * trunk.width:
        raise InputError("pose_predictor.rel_head reads one view alone; model.pose_latent.mode must be 'pairwise'")
    configuration.agree("model.pose_latent.mode", "pairwise")


def _position_encoding(trunk: Trunk, *, embedded: bool) -> dict[str, Any]:
    if not embedded:
        return {"type": "none"}
    return {"type": "sinusoidal", "width": trunk.width, "image_index": False, "counting": "square"}


def _gaussians(state: Mapping[str, Tensor], patch_size: int, configuration: Configuration) -> dict[str, Any]:
    """Return the settings of the renderer; its rasteriser is that of gsplat 1.4.0."""
    values, rest = divmod(shape_of(state, DECODER)[0], patch_size**2)
    degrees = {OTHER_VALUES + 3 * (degree + 1) ** 2: degree for degree in range(4)}
    if rest or values not in degrees:
        raise InputError(
            f"{DECODER} gives {values + rest / patch_size**2:g} values per pixel, "
            f"supported are {', '.join(map(str, degrees))}"
        )
    degree = configuration.agree("model.gaussians.sh_degree", degrees[values])
    return {
        "harmonics_degree": degree,
        **_distances(configuration),
        "scale_bias": configuration.real("model.scaling_bias", "-3.0 in the released configuration", otherwise=-2.3),
        "max_log_scale": configuration.real("model.scaling_max", "-2.0 in the released configuration", otherwise=-1.2),
        "opacity_bias": configuration.real("model.opacity_bias", "-2.0 in the released configuration", otherwise=-2.0),
        "rasteriser": {
            "type": "auto",
            "near": configuration.number("model.near_plane", "smallest visible depth", otherwise=0.2),
            "extent": "three_sigma",
        },
    }


def _distances(configuration: Configuration) -> dict[str, Any]:
    """Return nearest and farthest distance and the spacing between them."""
    section = "model.gaussians.range_setting"
    kind = configuration.ask(
        f"{section}.type", ("linear_depth", "log_depth", "disparity", "object_centric_depth"),
        "distances of Gaussians; 'linear_depth' in the released configuration", otherwise="object_centric_depth",
    )  # fmt: skip
    if kind == "object_centric_depth":  # (2 sigmoid - 1) 1.5 + 2.7
        return {"spacing": "linear", "near": 1.2, "far": 4.2}
    usual = {"linear_depth": (0.0, 500.0), "log_depth": (-6.2, 6.2), "disparity": (0.1, 500.0)}[kind]
    meanings = ("0 in the released configuration", "8 in the released configuration")
    near, far = (
        configuration.real(f"{section}.{end}", meaning, otherwise=otherwise)
        for end, meaning, otherwise in zip(("near", "far"), meanings, usual, strict=True)
    )
    if kind == "log_depth":
        near, far = math.exp(near), math.exp(far)
    return {"spacing": kind.removesuffix("_depth"), "near": near, "far": far}


def _names(block_names: BlockNames, depths: Mapping[str, int], *, embedded: bool) -> dict[str, str]:
    names = {
        "camera_token": "camera_tokens",
        "image_tokenizer.1.weight": "tokenizer.patches.linear.weight",
        "input_pose_tokenizer.1.weight": "fusion.rays.linear.weight",
        "mlp_fuse.0.weight": "fusion.network.0.weight",
        "image_token_decoder.0.weight": "scene.renderer.norm.weight",
        DECODER: "scene.renderer.linear.weight",
    }
    for layer in (1, 3):
        names |= linear(f"mlp_fuse.{layer}", f"fusion.network.{layer}")
    for layer in (0, 2):
        names |= linear(f"pose_predictor.rel_head.{layer}", f"camera_head.relative.{layer}")
        names |= linear(f"pose_predictor.canonical_k_head.{layer}", f"camera_head.focal.{layer}", bias=layer == 0)
        if embedded:
            names |= linear(f"pe_embedder.{layer}", f"position_encoding.patch_network.{layer}")
            names |= linear(f"pe_embedder_plucker.{layer}", f"fusion.ray_positions.patch_network.{layer}")
    for published, ours in STACKS.items():
        names |= block_names.of(published, ours, depths[published])
    return names
