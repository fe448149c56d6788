"""Model: LVSM's encoder-decoder, from posed images."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.rays import plucker_rays
from openrayzer.interfaces import (
    MODELS,
    AttentionBackend,
    Fusion,
    InputError,
    PositionEncoding,
    Tokenizer,
    TokenRenderer,
    UnposedInputError,
)
from openrayzer.layers.patches import patch_grid
from openrayzer.layers.stack import checkpoint_activations
from openrayzer.models.latent_scene import (
    EncoderKind,
    LatentScene,
    LatentSceneModel,
    check_sharing_of,
    check_sizes,
    view_index,
)
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras


@MODELS.register("lvsm_encoder_decoder")
class LVSMEncoderDecoder(LatentSceneModel):
    """LVSM, encoder-decoder: posed context views to a latent scene, posed target rays to views.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        patch_size: side of a patch in pixels.
        fusion: context images and rays to tokens.
        renderer: target rays and memory to views.
        attention: computes attention.
        encoder_depth: number of blocks of the encoder.
        num_latents: number of latents of a scene; 0 for a scene of context tokens.
        position_encoding: encoding of image tokens and of queries and keys; "none" as published.
        tokenizer: images to tokens, for a fusion that reads tokens; None for a fusion that reads pixels.
        patch_positions: position of a patch for a rotary encoding in encoder and renderer: its row and column
            ("grid"), or the direction of its ray in the world ("rays"). With "rays", attention depends on the cameras,
            so that the loss has a gradient to poses through attention.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMS norm of queries and keys in the encoder: 1e-5 as published, 1e-3 in
            Open-RayZer without rotary encoding; null for no norm. The renderer has its own norm.
        encoder: the tokens that attend to each other in the encoder: all ("joint"), or those of one view ("per_view").
            With "per_view", which needs ``num_latents`` 0, ``extend`` adds views at their own cost.
        norm_gains: whether the LayerNorms of the encoder and before the pixels have learned gains.
        activation_checkpointing: n recomputes every n-th block in the backward pass, to save memory; 0 recomputes none.

    Raises:
        InputError: the parts cannot be combined; the message names them.

    Source: Jin et al. 2025, "LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias".
    """

    posed = True

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        patch_size: int,
        fusion: Fusion,
        renderer: TokenRenderer,
        attention: AttentionBackend,
        encoder_depth: int,
        num_latents: int,
        position_encoding: PositionEncoding,
        tokenizer: Tokenizer | None = None,
        patch_positions: Literal["grid", "rays"] = "grid",
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        encoder: EncoderKind = "joint",
        norm_gains: bool = True,
        activation_checkpointing: int = 0,
    ) -> None:
        super().__init__()
        _check_fusion(fusion, tokenizer, position_encoding)
        self.patch_size, self.width = patch_size, width
        self.tokenizer, self.position_encoding, self.fusion = tokenizer, position_encoding, fusion
        self.scene = LatentScene(
            width=width,
            num_heads=num_heads,
            patch_size=patch_size,
            num_latents=num_latents,
            depth=encoder_depth,
            mlp_ratio=mlp_ratio,
            patch_positions=patch_positions,
            renderer=renderer,
            position_encoding=position_encoding,
            backend=attention,
            encoder=encoder,
            qk_norm_eps=qk_norm_eps,
            norm_gain=norm_gains,
            pixel_norm_gain=norm_gains,
        )
        check_sizes(self, width=width, patch_size=patch_size)
        checkpoint_activations(self, every=activation_checkpointing)

    def check_sharing(self, processes: int) -> None:
        check_sharing_of(self, processes)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        raise UnposedInputError("LVSM cannot estimate cameras; give it true cameras, or train 'rayzer'")

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> TokenScene:
        index = view_index(images) if index is None else index
        images, cameras, places = self.shares.own((images, cameras, index), "context views")
        b, v, _, height, width = images.shape
        tokens = images.new_zeros(b, v, 0, self.width)
        if self.tokenizer is not None:
            grid = patch_grid((height, width), self.patch_size)
            tokens = self.position_encoding.embed_patches(self.tokenizer(images), grid, places)
        fused = self.fusion(images, tokens, plucker_rays(cameras, (height, width)))
        return self.scene.encode(fused, images, cameras)


def _check_fusion(fusion: Fusion, tokenizer: Tokenizer | None, position_encoding: PositionEncoding) -> None:
    name = type(fusion).__name__
    if fusion.reads_tokens and tokenizer is None:
        raise InputError(f"fusion {name} reads image tokens; give the model a tokenizer, e.g. {{'type': 'linear'}}")
    if not fusion.reads_tokens and tokenizer is not None:
        raise InputError(f"fusion {name} reads pixels; leave out tokenizer {type(tokenizer).__name__}")
    if not fusion.reads_tokens and any(True for _ in position_encoding.parameters()):
        raise InputError(
            f"position encoding {type(position_encoding).__name__} changes image tokens, and fusion {name} reads none; "
            "take the encoding 'none' or 'rope2d', or the fusion 'token_mlp'"
        )
