"""Model: E-RayZer, self-supervised like RayZer, with scenes of Gaussians."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import full_precision
from openrayzer.interfaces import (
    MODELS,
    AttentionBackend,
    AttentionLayout,
    CameraHead,
    Fusion,
    GaussianRenderer,
    InputError,
    PositionEncoding,
    Tokenizer,
)
from openrayzer.models.latent_scene import EncoderKind
from openrayzer.models.rayzer import RayZer
from openrayzer.types import Cameras


@MODELS.register("erayzer")
class ERayZer(RayZer):
    """E-RayZer: estimates cameras, turns the context views into 3D Gaussians, and draws new views of these.

    This is RayZer without latents and with a renderer of Gaussians. A scene is explicit, so that cameras must fit its
    geometry, and other programs can open it. As published, the position encoding has no index of the view, the head of
    the cameras is "rot6d", and the fusion "token_mlp" has an encoding for the positions of rays.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        patch_size: side of a patch in pixels.
        tokenizer: images to tokens.
        position_encoding: encoding of image and camera tokens, and of queries and keys in both stacks.
        layout: the tokens that attend to each other in the camera estimator; "vggt_alternating" as published.
        camera_head: tokens to cameras.
        fusion: context images and rays to tokens.
        renderer: context tokens to Gaussians, and Gaussians to views.
        attention: computes attention in both stacks.
        estimator_depth: number of blocks of the camera estimator.
        encoder_depth: number of blocks of the scene encoder.
        encoder: the tokens that attend to each other in the encoder: those of one view and of all views in turn
            ("alternating"), all ("joint"), or those of one view ("per_view").
        num_camera_tokens: number of learned camera tokens per view, which the camera head reads; with 0, it reads the
            patch tokens.
        num_register_tokens: number of learned register tokens per view in the estimator.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMS norm of queries and keys; null for no norm.
        min_estimated_views: the estimator fills shorter lists up to this number with copies of the last view. 10
            reproduces the published code, which also counts them to find the middle view; 0 adds no copies.
        activation_checkpointing: n recomputes every n-th block in the backward pass, to save memory; 0 recomputes none.

    Raises:
        InputError: the parts cannot be combined; the message names them.

    Source: Zhao et al. 2026, "E-RayZer: Self-supervised 3D Reconstruction as Spatial Visual Pre-training".
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        patch_size: int,
        tokenizer: Tokenizer,
        position_encoding: PositionEncoding,
        layout: AttentionLayout,
        camera_head: CameraHead,
        fusion: Fusion,
        renderer: GaussianRenderer,
        attention: AttentionBackend,
        estimator_depth: int,
        encoder_depth: int,
        encoder: EncoderKind = "alternating",
        num_camera_tokens: int = 1,
        num_register_tokens: int = 4,
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        min_estimated_views: int = 0,
        activation_checkpointing: int = 0,
    ) -> None:
        if min_estimated_views < 0:
            raise InputError(f"min_estimated_views must be 0 (no copies) or more, got {min_estimated_views}")
        super().__init__(
            width=width,
            num_heads=num_heads,
            patch_size=patch_size,
            tokenizer=tokenizer,
            position_encoding=position_encoding,
            layout=layout,
            camera_head=camera_head,
            fusion=fusion,
            renderer=renderer,
            attention=attention,
            estimator_depth=estimator_depth,
            encoder_depth=encoder_depth,
            encoder=encoder,
            num_latents=0,
            num_camera_tokens=num_camera_tokens,
            num_register_tokens=num_register_tokens,
            mlp_ratio=mlp_ratio,
            qk_norm_eps=qk_norm_eps,
            activation_checkpointing=activation_checkpointing,
        )
        self.min_estimated_views = min_estimated_views

    def _cameras(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b v n d"],
        intrinsics: Float[Tensor, "b v 4"] | None,
    ) -> Cameras:
        v = tokens.shape[1]
        padded = torch.arange(max(v, self.min_estimated_views), device=tokens.device).clamp(max=v - 1)
        cameras = super()._cameras(images[:, padded], tokens[:, padded], None)
        cameras = Cameras(cameras.c2w[:, :v], cameras.intrinsics[:, :v])
        return cameras if intrinsics is None else replace(cameras, intrinsics=full_precision(intrinsics))
