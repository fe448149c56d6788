"""LVSM's encoder-decoder."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.lvsm import LVSM
from openrayzer.weights.interop.naming import shape_of
from openrayzer.weights.interop.trunk import Trunk


class LVSMEncoderDecoderWeights(LVSM):
    """LVSM, encoder-decoder; the baseline of RayZer and Open-RayZer too."""

    name = "lvsm-ed"
    experiment = "lvsm_re10k.json"
    fingerprint = "n_light_field_latent"
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
            "qk_norm_eps": trunk.qk_norm_eps(1e-5),
        }

    def names(self) -> dict[str, str]:
        return {"n_light_field_latent": "scene.latents"}
