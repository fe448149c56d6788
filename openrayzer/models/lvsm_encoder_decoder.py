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
    Renderer,
    Tokenizer,
    UnposedInputError,
)
from openrayzer.layers.patches import patch_grid
from openrayzer.layers.stack import checkpoint_activations
from openrayzer.models.latent_scene import LatentScene, LatentSceneModel, check_sizes, view_index
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
        attention: how attention is computed.
        encoder_depth: blocks that build the scene.
        num_latents: size of the scene's memory; 0 remembers the context tokens themselves.
        position_encoding: of image tokens and of queries and keys; LVSM has none.
        tokenizer: images to tokens, where the fusion reads tokens; None where it reads pixels.
        patch_positions: what a rotary position encoding turns by in the scene and the renderer: the patch's row and
            column in its own image, or where its ray points in the world. With "rays" attention follows the cameras,
            and the photometric loss moves a pose as it moves what is attended to.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMS norm of queries and keys in the encoder: 1e-5 as published, 1e-3 in
            Open-RayZer without rotary encoding; null leaves them as they are. The renderer has its own.
        activation_checkpointing: every so many blocks one is recomputed in the backward pass; 0 turns it off.

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
        renderer: Renderer,
        attention: AttentionBackend,
        encoder_depth: int,
        num_latents: int,
        position_encoding: PositionEncoding,
        tokenizer: Tokenizer | None = None,
        patch_positions: Literal["grid", "rays"] = "grid",
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
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
            qk_norm_eps=qk_norm_eps,
        )
        check_sizes(self, width=width, patch_size=patch_size)
        checkpoint_activations(self, every=activation_checkpointing)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        raise UnposedInputError("LVSM cannot estimate cameras; give it true ones, or train 'rayzer'")

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> TokenScene:
        b, v, _, height, width = images.shape
        tokens = images.new_zeros(b, v, 0, self.width)
        if self.tokenizer is not None:
            places = view_index(images) if index is None else index
            grid = patch_grid((height, width), self.patch_size)
            tokens = self.position_encoding.embed_patches(self.tokenizer(images), grid, places)
        fused = self.fusion(images, tokens, plucker_rays(cameras, (height, width)))
        return self.scene.encode(fused, cameras, (height, width))


def _check_fusion(fusion: Fusion, tokenizer: Tokenizer | None, position_encoding: PositionEncoding) -> None:
    name = type(fusion).__name__
    if fusion.reads_tokens and tokenizer is None:
        raise InputError(f"fusion {name} reads image tokens; give the model a tokenizer, e.g. {{'type': 'linear'}}")
    if not fusion.reads_tokens and tokenizer is not None:
        raise InputError(f"fusion {name} reads pixels and would never use tokenizer {type(tokenizer).__name__}")
    if not fusion.reads_tokens and any(True for _ in position_encoding.parameters()):
        raise InputError(
            f"position encoding {type(position_encoding).__name__} adds to image tokens, and fusion {name} reads "
            "none; take 'none' or 'rope2d', or the fusion 'token_mlp'"
        )
