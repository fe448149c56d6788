"""Both variants of LVSM."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from openrayzer.interfaces import Model
from openrayzer.types import Views
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.naming import depth_of, published_names, rename, shape_of
from openrayzer.weights.interop.system import Imported, System
from openrayzer.weights.interop.trunk import (
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

IMAGES = "image_tokenizer.1.weight"
"""Published name of the linear layer from colours and rays of a patch to a token."""


class LVSM(System):
    """Shared by both variants: needs cameras, no position encoding, one token from colours and rays of a patch."""

    title = "LVSM (Jin et al. 2025, github.com/Haian-Jin/LVSM)"
    license = "cc-by-nc-sa-4.0"
    stacks: ClassVar[Mapping[str, str]]
    """Published name of each stack of blocks -> our name; the last stack belongs to the renderer."""
    depth_keys: ClassVar[Mapping[str, str]]
    """Published name of each stack -> key of its depth in the configuration."""
    input_norm: ClassVar[str]
    """Published name of the norm before the renderer."""
    qk_eps: ClassVar[float] = 1e-5
    """Epsilon of the norm of queries and keys."""

    def read(self, state: Mapping[str, Tensor], configuration: Configuration) -> Imported:
        *_, last = self.stacks
        depths = {
            stack: configuration.agree(f"model.transformer.{self.depth_keys[stack]}", depth_of(state, stack))
            for stack in self.stacks
        }
        blocks = {name: value for name, value in state.items() if not name.startswith("image_tokenizer.")}
        names = self._names(state, BlockNames(is_normed(blocks)), depths)
        weights = rename(state, names)
        trunk = read_trunk(blocks, f"{last}.0", configuration)
        patch_size = self.patch_size(state, configuration)
        model: dict[str, Any] = {
            "width": trunk.width,
            "num_heads": trunk.num_heads,
            "patch_size": patch_size,
            "position_encoding": {"type": "none"},
            **self.image_parts(state, trunk, patch_size, configuration),
            "renderer": {
                "type": "joint",
                "width": trunk.width,
                "num_heads": trunk.num_heads,
                "depth": depths[last],
                "mlp_ratio": trunk.mlp_ratio,
                "qk_norm_eps": trunk.qk_norm_eps(self.qk_eps),
            },
            "attention": {"type": "auto"},
            "activation_checkpointing": 1,
            **self.model(state, trunk, depths, configuration),
        }
        configuration.check()
        side = configuration.get("model.image_tokenizer.image_size", 0)
        size = (f"data.image_size=[{side}, {side}]",) if side else ()
        return Imported(model, weights, published_names(names), (*size, *view_counts(configuration)))

    def reproduce(self, model: Model, inputs: Mapping[str, Tensor], configuration: Configuration) -> dict[str, Tensor]:
        """Compute render and loss."""
        return predicted(model, self.views(inputs, configuration), configuration)[1]

    def views(self, inputs: Mapping[str, Tensor], configuration: Configuration) -> Views:
        """Return the recorded views."""
        return views_of(inputs, *first_and_last(configuration, images_of(inputs).shape[1]), posed=True)

    @abstractmethod
    def model(
        self, state: Mapping[str, Tensor], trunk: Trunk, depths: Mapping[str, int], configuration: Configuration
    ) -> dict[str, Any]:
        """Return the type of our model and the arguments that differ between the variants."""

    def names(self) -> dict[str, str]:
        """Return published name -> our name of weights that only this variant has."""
        return {}

    def image_names(self, state: Mapping[str, Tensor]) -> dict[str, str]:
        """Return published name -> our name of the weights that make tokens of context views."""
        return {IMAGES: "fusion.patches.linear.weight"}

    def image_parts(
        self, state: Mapping[str, Tensor], trunk: Trunk, patch_size: int, configuration: Configuration
    ) -> dict[str, Any]:
        """Return the parts of our model that make tokens of context views."""
        return {"fusion": {"type": "pixel", "width": trunk.width, "patch_size": patch_size}}

    def patch_size(self, state: Mapping[str, Tensor], configuration: Configuration) -> int:
        """Return the side of a patch in pixels."""
        patch_size = patch_size_of(state, IMAGES, channels=9)
        for section in ("image_tokenizer", "target_pose_tokenizer"):
            configuration.agree(f"model.{section}.patch_size", patch_size)
        return patch_size

    def _names(self, state: Mapping[str, Tensor], block_names: BlockNames, depths: Mapping[str, int]) -> dict[str, str]:
        names = self.names() | {
            **self.image_names(state),
            "target_pose_tokenizer.1.weight": "scene.target_rays.linear.weight",
            f"{self.input_norm}.weight": "scene.renderer.norm.weight",
            "image_token_decoder.0.weight": "scene.pixels.norm.weight",
            "image_token_decoder.1.weight": "scene.pixels.linear.weight",
        }
        for stack, ours in self.stacks.items():
            names |= block_names.of(stack, ours, depths[stack])
        return names


class LVSMEncoderDecoderWeights(LVSM):
    """LVSM, encoder-decoder; RayZer and Open-RayZer use it as a baseline."""

    name = "lvsm-ed"
    experiment = "lvsm_re10k.json"
    fingerprint = ("n_light_field_latent", IMAGES)
    stacks: ClassVar[Mapping[str, str]] = {
        "transformer_encoder": "scene.encoder.blocks",
        "transformer_decoder": "scene.renderer.stack.blocks",
    }
    depth_keys: ClassVar[Mapping[str, str]] = {
        "transformer_encoder": "encoder_n_layer",
        "transformer_decoder": "decoder_n_layer",
    }
    input_norm = "transformer_input_layernorm_decoder"

    def model(
        self, state: Mapping[str, Tensor], trunk: Trunk, depths: Mapping[str, int], configuration: Configuration
    ) -> dict[str, Any]:
        num_latents = shape_of(state, "n_light_field_latent")[0]
        return {
            "type": "lvsm_encoder_decoder",
            "encoder_depth": depths["transformer_encoder"],
            "num_latents": configuration.agree("model.transformer.n_latent_vectors", num_latents),
            "mlp_ratio": trunk.mlp_ratio,
            "qk_norm_eps": trunk.qk_norm_eps(self.qk_eps),
        }

    def names(self) -> dict[str, str]:
        return {"n_light_field_latent": "scene.latents"}


class LVSMDecoderOnlyWeights(LVSM):
    """LVSM, decoder-only."""

    name = "lvsm-d"
    experiment = "lvsm_decoder_re10k.json"
    fingerprint = ("transformer_input_layernorm.weight", IMAGES)
    stacks: ClassVar[Mapping[str, str]] = {"transformer_blocks": "scene.renderer.stack.blocks"}
    depth_keys: ClassVar[Mapping[str, str]] = {"transformer_blocks": "n_layer"}
    input_norm = "transformer_input_layernorm"

    def model(
        self, state: Mapping[str, Tensor], trunk: Trunk, depths: Mapping[str, int], configuration: Configuration
    ) -> dict[str, Any]:
        return {"type": "lvsm_decoder_only"}
