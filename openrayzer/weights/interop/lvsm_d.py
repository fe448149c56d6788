"""LVSM's decoder-only variant."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.lvsm import LVSM
from openrayzer.weights.interop.trunk import Trunk


class LVSMDecoderOnlyWeights(LVSM):
    """LVSM, decoder-only."""

    name = "lvsm-d"
    experiment = "lvsm_decoder_re10k.json"
    fingerprint = "transformer_input_layernorm.weight"
    stacks: ClassVar[Mapping[str, str]] = {"transformer_blocks": "scene.renderer.stack.blocks"}
    depth_keys: ClassVar[Mapping[str, str]] = {"transformer_blocks": "n_layer"}
    input_norm = "transformer_input_layernorm"

    def model(
        self, state: Mapping[str, Tensor], trunk: Trunk, depths: Mapping[str, int], configuration: Configuration
    ) -> dict[str, Any]:
        return {"type": "lvsm_decoder_only"}
