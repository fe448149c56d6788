"""RayZer, the code that its authors released."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from openrayzer.interfaces import InputError, Model
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.naming import depth_of, linear, published_names, rename, shape_of
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.trunk import (
    BlockNames,
    Trunk,
    is_normed,
    patch_size_of,
    predicted,
    read_trunk,
    recorded_roles,
    view_counts,
    views_of,
)

ROTATIONS = {6: "rot6d", 4: "quaternion"}
"""Camera head by the number of values for a rotation."""
QUATERNION = "quat"
"""Name of the quaternion in the published configuration."""


class RayZerOfficial(System):
    """Released RayZer: one token sequence, sinusoidal encoding with image index, cameras relative to one view."""

    name = "rayzer-official"
    experiment = "rayzer_paper_dl3dv.json"
    fingerprint = ("scene_code",)
    title = "RayZer (Jiang et al. 2025), the released code"
    license = "cc-by-nc-sa-4.0"

    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        embedded = configuration.agree("model.input_with_pe", any("pe_embedder." in name for name in state))
        depths = self._depths(state, configuration)
        names = self._names(BlockNames(is_normed(state)), depths, embedded=embedded)
        weights = rename(state, names)
        trunk = read_trunk(state, "transformer_encoder.0", configuration)
        patch_size = square_patch_size(state, configuration)
        num_latents = configuration.agree("model.scene_latent.length", shape_of(state, "scene_code")[0])
        if (num_tokens := configuration.agree("model.pose_latent.length", shape_of(state, "cam_code")[0])) != 1:
            configuration.problem(
                f"weight cam_code holds {num_tokens} camera tokens, the published code uses exactly one"
            )
        model: dict[str, Any] = {
            "type": "rayzer",
            "width": trunk.width,
            "num_heads": trunk.num_heads,
            "patch_size": patch_size,
            "tokenizer": {"type": "linear", "width": trunk.width, "patch_size": patch_size},
            "position_encoding": self._position_encoding(trunk, embedded=embedded),
            "layout": {"type": "global"},
            "camera_head": relative_head(state, trunk, configuration),
            "fusion": {"type": "token_mlp", "width": trunk.width, "patch_size": patch_size},
            "renderer": {
                "type": "joint",
                "width": trunk.width,
                "num_heads": trunk.num_heads,
                "depth": depths["transformer_decoder"],
                "mlp_ratio": trunk.mlp_ratio,
                "qk_norm_eps": trunk.qk_norm_eps(1e-5),
            },
            "attention": {"type": "auto"},
            "estimator_depth": depths["transformer_encoder"],
            "encoder_depth": depths["transformer_encoder_geom"],
            "num_latents": num_latents,
            "num_camera_tokens": 1,
            "mlp_ratio": trunk.mlp_ratio,
            "qk_norm_eps": trunk.qk_norm_eps(1e-5),
            "activation_checkpointing": 1,
        }
        configuration.check()
        changes = (*configured_image_size(configuration), *view_counts(configuration))
        note = (
            "the position encoding of these weights counts views: they work only with as many views, context and "
            "target together, as in their training (24 for the released weights); train them further for another number"
        )
        return Imported(model, weights, published_names(names), changes, (note,))

    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute render, c2w, fxfycxcy (divided by the sides of the image) and loss."""
        views = views_of(inputs, *recorded_roles(inputs), posed=False)
        prediction, outputs = predicted(model, views, configuration)
        return outputs | {"c2w": prediction.cameras.c2w, "fxfycxcy": prediction.cameras.intrinsics}

    @staticmethod
    def _depths(state: Mapping[str, Tensor], configuration: Configuration) -> dict[str, int]:
        keys = {
            "transformer_encoder": "encoder_n_layer",
            "transformer_encoder_geom": "encoder_geom_n_layer",
            "transformer_decoder": "decoder_n_layer",
        }
        return {
            stack: configuration.agree(f"model.transformer.{key}", depth_of(state, stack))
            for stack, key in keys.items()
        }

    @staticmethod
    def _position_encoding(trunk: Trunk, *, embedded: bool) -> dict[str, Any]:
        if not embedded:
            return {"type": "camera_index"}
        return {"type": "sinusoidal", "width": trunk.width, "image_index": True, "counting": "square"}

    @staticmethod
    def _names(block_names: BlockNames, depths: Mapping[str, int], *, embedded: bool) -> dict[str, str]:
        names = {
            "scene_code": "scene.latents",
            "cam_code": "camera_tokens",
            "image_tokenizer.1.weight": "tokenizer.patches.linear.weight",
            "target_pose_tokenizer.1.weight": "fusion.rays.linear.weight",  # rays of context views
            "target_pose_tokenizer2.1.weight": "scene.target_rays.linear.weight",
            "decoder_ln.weight": "scene.renderer.norm.weight",
            "mlp_fuse.0.weight": "fusion.network.0.weight",
            "image_token_decoder.0.weight": "scene.pixels.norm.weight",
            "image_token_decoder.1.weight": "scene.pixels.linear.weight",
        }
        for layer in (1, 3):
            names |= linear(f"mlp_fuse.{layer}", f"fusion.network.{layer}")
        for layer in (0, 2):
            names |= linear(f"pose_predictor.rel_head.{layer}", f"camera_head.relative.{layer}")
            names |= linear(f"pose_predictor.canonical_k_head.{layer}", f"camera_head.focal.{layer}")
            if embedded:
                names |= linear(f"pe_embedder.{layer}", f"position_encoding.patch_network.{layer}")
                names |= linear(f"temporal_pe_embedder.{layer}", f"position_encoding.camera_network.{layer}")
        stacks = {
            "transformer_encoder": "estimator.blocks",
            "transformer_encoder_geom": "scene.encoder.blocks",
            "transformer_decoder": "scene.renderer.stack.blocks",
        }
        for published, ours in stacks.items():
            names |= block_names.of(published, ours, depths[published])
        return names


def square_patch_size(state: Mapping[str, Tensor], configuration: Configuration) -> int:
    """Return the side of a patch in pixels, which images and rays share."""
    patch_size = patch_size_of(state, "image_tokenizer.1.weight", channels=3)
    for section in ("image_tokenizer", "target_image"):
        configuration.agree(f"model.{section}.patch_size", patch_size)
    return patch_size


def relative_head(state: Mapping[str, Tensor], trunk: Trunk, configuration: Configuration) -> dict[str, Any]:
    """Return the settings of the camera head that compares each view with a canonical one."""
    numbers = shape_of(state, "pose_predictor.rel_head.2.weight")[0] - 3
    if numbers not in ROTATIONS:
        raise InputError(f"pose_predictor.rel_head.2.weight gives {numbers + 3} values per view, supported are 9 and 7")
    said = configuration.get("model.pose_latent.representation", None)
    if said is not None and (said == QUATERNION) != (numbers == 4):
        configuration.problem(
            f"model.pose_latent.representation is {said!r}, the weights have {numbers} values per rotation"
        )
    canonical = configuration.ask(
        "model.pose_latent.canonical", ("first", "middle"), "the reference view of all cameras; "
        "'middle' in the released configuration", otherwise="first",
    )  # fmt: skip
    return {
        "type": ROTATIONS[numbers],
        "width": trunk.width,
        "canonical": canonical,
        "min_focal": None,
        "focal_unit": "own_side",
    }


def configured_image_size(configuration: Configuration) -> tuple[str, ...]:
    """Return an override of the base experiment with the configured image size, if there is one."""
    sides = [configuration.get(f"model.target_image.{side}", 0) for side in ("height", "width")]
    return (f"data.image_size={sides}",) if all(sides) else ()
