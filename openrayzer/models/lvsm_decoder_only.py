"""Model: LVSM's decoder-only variant, from posed images."""

from typing import Literal

from openrayzer.interfaces import MODELS, AttentionBackend, Fusion, PositionEncoding, Tokenizer, TokenRenderer
from openrayzer.models.lvsm_encoder_decoder import LVSMEncoderDecoder


@MODELS.register("lvsm_decoder_only")
class LVSMDecoderOnly(LVSMEncoderDecoder):
    """LVSM, decoder-only: each target view attends to the tokens of all context views.

    This is the encoder-decoder without an encoder: the scene consists of the context tokens, and all blocks belong to
    the renderer. The paper reports its best quality for it. The cost of a rendered view grows with the number of
    context views.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        patch_size: side of a patch in pixels.
        fusion: context images and rays to tokens.
        renderer: target rays and context tokens to views; "joint" as published.
        attention: computes attention.
        position_encoding: encoding of image tokens and of queries and keys; "none" as published.
        tokenizer: images to tokens, for a fusion that reads tokens; None for a fusion that reads pixels.
        patch_positions: position of a patch for a rotary encoding in the renderer: its row and column ("grid"), or the
            direction of its ray in the world ("rays").
        activation_checkpointing: n recomputes every n-th block in the backward pass, to save memory; 0 recomputes none.

    Source: Jin et al. 2025, "LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias".
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        patch_size: int,
        fusion: Fusion,
        renderer: TokenRenderer,
        attention: AttentionBackend,
        position_encoding: PositionEncoding,
        tokenizer: Tokenizer | None = None,
        patch_positions: Literal["grid", "rays"] = "grid",
        activation_checkpointing: int = 0,
    ) -> None:
        super().__init__(
            width=width,
            num_heads=num_heads,
            patch_size=patch_size,
            fusion=fusion,
            renderer=renderer,
            attention=attention,
            encoder_depth=0,
            num_latents=0,
            position_encoding=position_encoding,
            tokenizer=tokenizer,
            patch_positions=patch_positions,
            activation_checkpointing=activation_checkpointing,
        )
