"""Model: LVSM's decoder-only variant, from posed images."""

from typing import Literal

from openrayzer.interfaces import MODELS, AttentionBackend, Fusion, PositionEncoding, Renderer, Tokenizer
from openrayzer.models.lvsm_encoder_decoder import LVSMEncoderDecoder


@MODELS.register("lvsm_decoder_only")
class LVSMDecoderOnly(LVSMEncoderDecoder):
    """LVSM, decoder-only: each target view attends to the tokens of all context views; nothing is summed up before.

    It is the encoder-decoder without an encoder: the scene is the context tokens themselves, and all blocks are the
    renderer's. Best quality, and each rendered view costs as much as all context views together.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        patch_size: side of a patch in pixels.
        fusion: context images and rays to tokens.
        renderer: target rays and context tokens to views; "joint" as published.
        attention: how attention is computed.
        position_encoding: of image tokens and of queries and keys; LVSM has none.
        tokenizer: images to tokens, where the fusion reads tokens; None where it reads pixels.
        patch_positions: what a rotary position encoding turns by in the renderer: the patch's row and column in its
            own image, or where its ray points in the world.
        activation_checkpointing: every so many blocks one is recomputed in the backward pass; 0 turns it off.

    Source: Jin et al. 2025, "LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias".
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        patch_size: int,
        fusion: Fusion,
        renderer: Renderer,
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
