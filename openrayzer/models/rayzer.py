"""Model: RayZer, self-supervised from unposed, uncalibrated images."""

from dataclasses import replace
from typing import Literal

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.precision import full_precision
from openrayzer.geometry.rays import plucker_rays
from openrayzer.interfaces import (
    MODELS,
    AttentionBackend,
    AttentionLayout,
    CameraHead,
    Fusion,
    InputError,
    PositionEncoding,
    Renderer,
    Tokenizer,
    UnposedInputError,
)
from openrayzer.layers.init import learned_tokens
from openrayzer.layers.patches import PatchLinear, image_size_of, patch_grid, patch_positions
from openrayzer.layers.stack import SelfStack, checkpoint_activations
from openrayzer.models.latent_scene import LatentScene, LatentSceneModel, check_sizes, view_index
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras, Prediction, Views, select_views


@MODELS.register("rayzer")
class RayZer(LatentSceneModel):
    """RayZer: predicts cameras, builds a latent scene, renders new views; trained by photometric loss alone.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        patch_size: side of a patch in pixels.
        tokenizer: images to tokens.
        position_encoding: of the image and camera tokens, and of queries and keys in all stacks.
        layout: which tokens see which while cameras are estimated.
        camera_head: tokens to cameras.
        fusion: context images and rays to tokens.
        renderer: target rays and memory to views.
        attention: how attention is computed, in all stacks.
        estimator_depth: blocks that look for cameras.
        encoder_depth: blocks that build the scene.
        num_latents: size of the scene's memory; 0 remembers the context tokens themselves.
        num_camera_tokens: learned tokens per view from which its camera is read; 0 reads its patch tokens.
        num_register_tokens: further learned tokens per view, for the estimator's own use.
        patch_positions: what a rotary position encoding turns by in the scene and the renderer: the patch's row and
            column in its own image, or where its ray points in the world. With "rays" attention follows the cameras,
            and the photometric loss moves a pose as it moves what is attended to.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMS norm of queries and keys in the estimator and the scene encoder: 1e-5 as
            published, 1e-3 in Open-RayZer without rotary encoding; null leaves them as they are. The renderer has
            its own.
        input_norms: whether a LayerNorm stands before the estimator and before the scene encoder, as in Open-RayZer.
        pixel_norm_gain: whether the norm before the pixels has a learned gain; Open-RayZer has none.
        intrinsics: "given" takes those that come with the images and needs a camera head that predicts none, as
            Open-RayZer without "predict_fov".
        share_ray_tokens: whether context and target rays become tokens by the same weights, as in Open-RayZer with
            "decoder_as_canonical"; for fusions that make tokens of rays.
        poses_from_single_images: accept that every pose is guessed from its own image, because neither layout nor
            camera head lets views meet. Open-RayZer does so without "rope" or "vggstyle".
        activation_checkpointing: every so many blocks one is recomputed in the backward pass; 0 turns it off.

    Source: Jiang et al. 2025, "RayZer: A Self-supervised Large View Synthesis Model".
    """

    posed = False

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
        renderer: Renderer,
        attention: AttentionBackend,
        estimator_depth: int,
        encoder_depth: int,
        num_latents: int,
        num_camera_tokens: int = 1,
        num_register_tokens: int = 0,
        patch_positions: Literal["grid", "rays"] = "grid",
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        input_norms: bool = False,
        pixel_norm_gain: bool = True,
        intrinsics: Literal["predicted", "given"] = "predicted",
        share_ray_tokens: bool = False,
        poses_from_single_images: bool = False,
        activation_checkpointing: int = 0,
    ) -> None:
        super().__init__()
        if not poses_from_single_images:
            _check_views_meet(layout, camera_head, estimator_depth)
        _check_intrinsics(intrinsics, camera_head)
        if min(num_camera_tokens, num_register_tokens) < 0:
            raise InputError("num_camera_tokens and num_register_tokens must be 0 or more")
        self.patch_size, self.num_camera_tokens = patch_size, num_camera_tokens
        self.tokenizer, self.position_encoding, self.layout = tokenizer, position_encoding, layout
        num_learned = num_camera_tokens + num_register_tokens
        self.camera_tokens = learned_tokens(num_learned, width) if num_learned else None
        self.estimator = SelfStack(
            width=width,
            num_heads=num_heads,
            depth=estimator_depth,
            mlp_ratio=mlp_ratio,
            qk_norm_eps=qk_norm_eps,
            input_norm=input_norms,
        )
        self.needs_intrinsics = intrinsics == "given"
        self.camera_head, self.fusion, self.backend = camera_head, fusion, attention
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
            input_norm=input_norms,
            pixel_norm_gain=pixel_norm_gain,
        )
        if share_ray_tokens:
            self.scene.target_rays = _ray_tokenizer_of(fusion)
        check_sizes(self, width=width, patch_size=patch_size)
        checkpoint_activations(self, every=activation_checkpointing)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        if self.needs_intrinsics and intrinsics is None:
            raise UnposedInputError("this RayZer was built with intrinsics 'given'; give estimate(images, intrinsics)")
        tokens = self._image_tokens(images, view_index(images))
        return self._cameras(tokens, image_size_of(images), intrinsics)

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> TokenScene:
        tokens = self._image_tokens(images, view_index(images) if index is None else index)
        return self._scene(images, tokens, cameras)

    def forward(self, views: Views) -> Prediction:
        """The composition of the three maps; images become tokens once for all of them."""
        intrinsics = self._known_cameras(views, "intrinsics").intrinsics if self.needs_intrinsics else None
        tokens = self._image_tokens(views.images, view_index(views.images))
        cameras = self._cameras(tokens, image_size_of(views.images), intrinsics)
        context_tokens = select_views(tokens, views.context)
        scene = self._scene(views.context_images, context_tokens, cameras.select(views.context))
        return Prediction(self.render(scene, cameras.select(views.target)), cameras)

    def _image_tokens(self, images: Float[Tensor, "b v 3 h w"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v n d"]:
        grid = patch_grid(image_size_of(images), self.patch_size)
        return self.position_encoding.embed_patches(self.tokenizer(images), grid, index)

    def _cameras(
        self,
        tokens: Float[Tensor, "b v n d"],
        image_size: tuple[int, int],
        intrinsics: Float[Tensor, "b v 4"] | None,
    ) -> Cameras:
        b, v = tokens.shape[:2]
        positions, learned = patch_positions(patch_grid(image_size, self.patch_size), tokens.device), 0
        if self.camera_tokens is not None:
            learned = self.camera_tokens.shape[0]
            extra = repeat(self.camera_tokens, "c d -> b v c d", b=b, v=v).to(tokens.dtype)
            tokens = torch.cat([self.position_encoding.embed_cameras(extra, view_index(tokens)), tokens], dim=2)
            positions = torch.cat([positions.new_zeros(learned, 2), positions])
        positions = repeat(positions, "n two -> b v n two", b=b, v=v)
        seen = self.estimator.over_views(tokens, positions, self.layout, self.position_encoding, self.backend)
        read = seen[:, :, : self.num_camera_tokens] if self.num_camera_tokens else seen[:, :, learned:]
        cameras = self.camera_head(read, image_size)
        return cameras if intrinsics is None else replace(cameras, intrinsics=full_precision(intrinsics))

    def _scene(self, images: Tensor, tokens: Float[Tensor, "b v n d"], cameras: Cameras) -> TokenScene:
        image_size = image_size_of(images)
        fused = self.fusion(images, tokens, plucker_rays(cameras, image_size))
        return self.scene.encode(fused, cameras, image_size)


def _check_views_meet(layout: AttentionLayout, camera_head: CameraHead, depth: int) -> None:
    alone = all(layout.groups(block) == "(b v) n" for block in range(depth))
    if alone and not camera_head.compares_views:
        raise InputError(
            f"layout {type(layout).__name__} with estimator_depth {depth} never lets views see each other, and camera "
            f"head {type(camera_head).__name__} reads each view alone: poses would be guessed from single images; "
            "take the layout 'global' or 'vggt_alternating', more blocks, or the camera head 'rot6d'"
        )


def _check_intrinsics(intrinsics: str, camera_head: CameraHead) -> None:
    name = type(camera_head).__name__
    if intrinsics == "given" and camera_head.predicts_intrinsics:
        raise InputError(
            f"with intrinsics 'given' what camera head {name} predicts would never be used nor learnt; take one that "
            'predicts none, e.g. {"type": "pi3", "field_of_view": "fixed"}'
        )


def _ray_tokenizer_of(fusion: Fusion) -> PatchLinear:
    rays = getattr(fusion, "rays", None)
    if not isinstance(rays, PatchLinear):
        raise InputError(
            f"share_ray_tokens: fusion {type(fusion).__name__} makes no tokens of rays alone that could be shared; "
            "take 'token_mlp' or 'residual_mlp'"
        )
    return rays
