"""UP-LVSM and PT-LVSM, the two models of Less3Depend."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from openrayzer.geometry.rays import plucker_rays
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Views
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.lvsm import LVSM
from openrayzer.weights.interop.naming import depth_of, linear, paired, shape_of
from openrayzer.weights.interop.system import Imported
from openrayzer.weights.interop.trunk import Trunk, patch_size_of, predicted, recorded_roles, views_of

DINO = "image_tokenizer.1.dino_vit"
MARKER, TARGET_RAYS = "canonical_pose_tokenizer.1.weight", "target_pose_tokenizer.1.weight"
HEAD_WIDTH = 64
"""Width of an attention head of DINOv2 without a norm of queries and keys, which would show it."""
POSES = "absT_quaR"
"""The pose encoding that the published code supports: a camera centre and a quaternion."""
IMAGE_NAMES = {
    f"{DINO}.cls_token": "tokenizer.backbone.cls_token",
    f"{DINO}.pos_embed": "tokenizer.backbone.pos_embed",
    f"{DINO}.register_tokens": "tokenizer.backbone.reg_token",
    **linear(f"{DINO}.patch_embed.proj", "tokenizer.backbone.patch_embed.proj"),
    **linear(f"{DINO}.norm", "tokenizer.backbone.norm"),
    MARKER: "fusion.rays.linear.weight",
}
"""Published name -> our name of the weights that make tokens of context views, without DINOv2's blocks."""


class Less3Depend(LVSM):
    """LVSM with tokens from DINOv2, and rays that mark the first context view."""

    title = "Less3Depend (Wang et al. 2025, github.com/ou524u/Less3Depend)"
    license = "unknown"
    qk_eps = 1e-3

    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        notes: tuple[str, ...] = ()
        if configuration.get("unposed.decoder_as_canonical", False):
            state = {MARKER: state[TARGET_RAYS], **state} if TARGET_RAYS in state else state
            notes = ("the one tokenizer of all rays becomes two equal ones, which training may change differently",)
        return replace(super().read(_joined_positions(state), configuration), notes=notes)

    def views(self, inputs: Mapping[str, Tensor], configuration: Configuration) -> Views:
        return views_of(inputs, *recorded_roles(inputs), posed=True)

    def image_names(self, state: Mapping[str, Tensor]) -> dict[str, str]:
        leaves = {"ls1.gamma": "ls1.gamma", "ls2.gamma": "ls2.gamma"}
        for layer in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            leaves |= linear(layer, layer)
        if _is_normed(state):
            leaves |= {f"attn.{kind}_norm.weight": f"attn.{kind}_norm.weight" for kind in "qk"}
        names = dict(IMAGE_NAMES)
        for number in range(depth_of(state, f"{DINO}.blocks")):
            names |= paired(f"{DINO}.blocks.{number}", f"tokenizer.backbone.blocks.{number}", leaves)
        return names

    def image_parts(
        self, state: Mapping[str, Tensor], trunk: Trunk, patch_size: int, configuration: Configuration
    ) -> dict[str, Any]:
        normed = configuration.agree("unposed.dino_qknorm", _is_normed(state))
        width = shape_of(state, f"{DINO}.cls_token", rank=3)[-1]
        head = shape_of(state, f"{DINO}.blocks.0.attn.q_norm.weight", rank=1)[0] if normed else HEAD_WIDTH
        if width != trunk.width or width % head:
            configuration.problem(
                f"DINOv2 has width {width} and heads of {head}, and the other blocks have width {trunk.width}; the "
                "widths must be equal, and a multiple of the width of a head"
            )
        return {
            "tokenizer": {
                "type": "dinov2",
                "width": trunk.width,
                "trainable": True,
                "normalise": False,
                "qk_norm_eps": self.qk_eps if normed else None,
                "pretrained": False,
                "backbone_width": width,
                "depth": depth_of(state, f"{DINO}.blocks"),
                "num_heads": max(1, width // head),
            },
            "fusion": {"type": "first_view_rays", "width": trunk.width, "patch_size": patch_size},
        }

    def patch_size(self, state: Mapping[str, Tensor], configuration: Configuration) -> int:
        patch_size = configuration.agree(
            "model.image_tokenizer.patch_size", shape_of(state, f"{DINO}.patch_embed.proj.weight", rank=4)[-1]
        )
        if (of_rays := patch_size_of(state, TARGET_RAYS, channels=6)) != patch_size:
            configuration.problem(f"patches of images have {patch_size} pixels a side, and those of rays {of_rays}")
        return configuration.agree("model.target_pose_tokenizer.patch_size", patch_size)


class UPLVSMWeights(Less3Depend):
    """UP-LVSM: the camera of a target comes from its own image and the scene."""

    name = "uplvsm"
    experiment = "uplvsm_re10k_224.json"
    fingerprint = ("estimator.absT_head.fc1.weight",)
    stacks: ClassVar[Mapping[str, str]] = {
        "transformer_encoder": "scene.encoder.blocks",
        "estimator.transformer_estimator": "estimator.blocks",
        "transformer_decoder": "scene.renderer.stack.blocks",
    }
    depth_keys: ClassVar[Mapping[str, str]] = {
        "transformer_encoder": "encoder_n_layer",
        "estimator.transformer_estimator": "estimator_n_layer",
        "transformer_decoder": "decoder_n_layer",
    }
    input_norm = "transformer_input_layernorm_decoder"

    def model(
        self, state: Mapping[str, Tensor], trunk: Trunk, depths: Mapping[str, int], configuration: Configuration
    ) -> dict[str, Any]:
        configuration.agree("unposed.pose_enc_type", POSES)
        num_latents = shape_of(state, "n_light_field_latent")[0]
        return {
            "type": "uplvsm",
            "camera_head": {"type": "absolute_quaternion", "width": trunk.width},
            "encoder_depth": depths["transformer_encoder"],
            "estimator_depth": depths["estimator.transformer_estimator"],
            "num_latents": configuration.agree("model.transformer.n_latent_vectors", num_latents),
            "mlp_ratio": trunk.mlp_ratio,
            "qk_norm_eps": trunk.qk_norm_eps(self.qk_eps),
        }

    def names(self) -> dict[str, str]:
        names = {"n_light_field_latent": "scene.latents"}
        for published, ours in (("absT_head", "centre"), ("quaR_head", "quaternion")):
            for layer, place in (("fc1", 0), ("fc2", 2)):
                names |= linear(f"estimator.{published}.{layer}", f"camera_head.{ours}.{place}")
        return names

    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute render, c2w and plucker (moment first) of the target views, and loss."""
        views = self.views(inputs, configuration)
        prediction, outputs = predicted(model, views, configuration)
        targets = prediction.cameras.select(views.target)
        size = (views.images.shape[-2], views.images.shape[-1])
        return outputs | {"c2w": targets.c2w, "plucker": plucker_rays(targets, size)}


class PTLVSMWeights(Less3Depend):
    """PT-LVSM: the poses of the first context view and of the targets are given."""

    name = "ptlvsm"
    experiment = "ptlvsm_re10k.json"
    fingerprint = (f"{DINO}.cls_token", "transformer_blocks.0.norm1.weight")
    stacks: ClassVar[Mapping[str, str]] = {"transformer_blocks": "scene.renderer.stack.blocks"}
    depth_keys: ClassVar[Mapping[str, str]] = {"transformer_blocks": "n_layer"}
    input_norm = "transformer_input_layernorm"

    def model(
        self, state: Mapping[str, Tensor], trunk: Trunk, depths: Mapping[str, int], configuration: Configuration
    ) -> dict[str, Any]:
        if configuration.get("unposed.canonical_camera", False):
            configuration.problem(
                "unposed.canonical_camera: true is not supported; only weights that were trained with false, the "
                "released setting, can be imported"
            )
        return {"type": "lvsm_decoder_only"}


def _is_normed(state: Mapping[str, Tensor]) -> bool:
    """Return True if DINOv2 normalises queries and keys."""
    return f"{DINO}.blocks.0.attn.q_norm.weight" in state


def _joined_positions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the position of the class token added to the class token, as timm stores them.

    Raises:
        InputError: the table of positions has another shape than a class token and patches.
    """
    token, table = state.get(f"{DINO}.cls_token"), state.get(f"{DINO}.pos_embed")
    if token is None or table is None:
        return dict(state)  # the importer lists missing weights
    if token.ndim != 3 or table.ndim != 3 or table.shape[-1] != token.shape[-1]:
        raise InputError(f"{DINO}.pos_embed has shape {tuple(table.shape)} and cls_token {tuple(token.shape)}")
    return {**state, f"{DINO}.cls_token": token + table[:, :1], f"{DINO}.pos_embed": table[:, 1:]}
