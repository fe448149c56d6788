"""Model: RayZer, self-supervised from unposed, uncalibrated images."""

from dataclasses import replace
from functools import partial
from typing import Any, Literal

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
    ContextRenderer,
    Fusion,
    GaussianRenderer,
    InputError,
    Matcher,
    PositionEncoding,
    Tokenizer,
    TokenRenderer,
    UnposedInputError,
)
from openrayzer.layers.init import learned_tokens
from openrayzer.layers.pair_tokens import PairTokens
from openrayzer.layers.patches import PatchLinear, image_size_of, patch_grid, patch_positions
from openrayzer.layers.stack import SelfStack, checkpoint_activations
from openrayzer.models.gaussian_scenes import GaussianScenes
from openrayzer.models.latent_scene import (
    EncoderKind,
    LatentScene,
    LatentSceneModel,
    check_sharing_of,
    check_sizes,
    view_index,
)
from openrayzer.models.scene_network import SceneNetwork
from openrayzer.types import Cameras, Prediction, Scene, Views, select_views


@MODELS.register("rayzer")
class RayZer(LatentSceneModel):
    """RayZer: estimates cameras, encodes a latent scene, renders new views; trained by a photometric loss alone.

    Args:
        width: token width d.
        num_heads: attention heads of every block.
        patch_size: side of a patch in pixels.
        tokenizer: images to tokens.
        position_encoding: encoding of image and camera tokens, and of queries and keys in all stacks.
        layout: the tokens that attend to each other in the camera estimator.
        camera_head: tokens to cameras.
        fusion: context images and rays to tokens.
        renderer: target rays and memory to views; or, with ``num_latents`` 0, context tokens to Gaussians and these to
            views ("gaussians").
        attention: computes attention in all stacks.
        estimator_depth: number of blocks of the camera estimator.
        encoder_depth: number of blocks of the scene encoder.
        num_latents: number of latents of a scene; 0 for a scene of context tokens.
        encoder: the tokens that attend to each other in the encoder: all ("joint"), or those of one view ("per_view").
            With "per_view", which needs ``num_latents`` 0, ``extend`` adds views at their own cost. A scene of
            Gaussians can also have both in turn, one view first ("alternating").
        num_camera_tokens: number of learned camera tokens per view, which the camera head reads; with 0, it reads the
            patch tokens.
        num_register_tokens: number of learned register tokens per view in the estimator.
        patch_positions: position of a patch for a rotary encoding in encoder and renderer: its row and column
            ("grid"), or the direction of its ray in the world ("rays"). With "rays", attention depends on the cameras,
            so that the loss has a gradient to poses through attention.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMS norm of queries and keys in estimator and encoder: 1e-5 as published, 1e-3 in
            Open-RayZer without rotary encoding; null for no norm. The renderer has its own norm.
        input_norms: whether a LayerNorm precedes the estimator and the encoder, as in Open-RayZer.
        pixel_norm_gain: whether the norm before the pixels has a learned gain; Open-RayZer has no gain.
        intrinsics: "given" uses the intrinsics of the data and needs a camera head that predicts none, like Open-RayZer
            without "predict_fov".
        share_ray_tokens: whether context and target rays become tokens by the same weights, like Open-RayZer with
            "decoder_as_canonical". The fusion must have weights for rays alone.
        matcher: finds matches between the views for the camera estimator, see ``estimator_sees``. It is not trained.
        estimator_sees: the input of the camera estimator: the patch tokens ("patches"), as published; or, with a
            matcher, camera tokens to which a network adds a token of the matches of the view with all others
            ("matches"); or both ("both").
        poses_from_single_images: accept a layout and a camera head that compute each pose from one image alone, like
            Open-RayZer without "rope" and "vggstyle".
        activation_checkpointing: n recomputes every n-th block in the backward pass, to save memory; 0 recomputes none.

    Raises:
        InputError: the parts cannot be combined; the message names them.

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
        renderer: ContextRenderer,
        attention: AttentionBackend,
        estimator_depth: int,
        encoder_depth: int,
        num_latents: int,
        encoder: EncoderKind = "joint",
        num_camera_tokens: int = 1,
        num_register_tokens: int = 0,
        patch_positions: Literal["grid", "rays"] = "grid",
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-5,
        input_norms: bool = False,
        pixel_norm_gain: bool = True,
        intrinsics: Literal["predicted", "given"] = "predicted",
        share_ray_tokens: bool = False,
        matcher: Matcher | None = None,
        estimator_sees: Literal["patches", "matches", "both"] = "patches",
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
        stack = partial(
            SelfStack,
            width=width,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            qk_norm_eps=qk_norm_eps,
            input_norm=input_norms,
        )
        self.estimator = stack(depth=estimator_depth)
        _check_matches(matcher, estimator_sees, num_camera_tokens)
        self.pair_tokens = None if matcher is None else PairTokens(matcher, width=width)
        self.sees_patches = estimator_sees != "matches"
        self.needs_intrinsics = intrinsics == "given"
        self.has_losses = any(getattr(renderer, "loss_weights", {}).values())  # of the Gaussians of a scene
        self.camera_head, self.fusion, self.backend = camera_head, fusion, attention
        self.scene: SceneNetwork[Any]
        if isinstance(renderer, GaussianRenderer):
            _check_gaussians(num_latents, patch_positions, share_ray_tokens=share_ray_tokens)
            self.scene = GaussianScenes(
                encoder=stack(depth=encoder_depth),
                kind=encoder,
                renderer=renderer,
                position_encoding=position_encoding,
                backend=attention,
            )
        else:
            assert isinstance(renderer, TokenRenderer)
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
                input_norm=input_norms,
                pixel_norm_gain=pixel_norm_gain,
            )
            if share_ray_tokens:
                self.scene.target_rays = _ray_tokenizer_of(fusion)
        check_sizes(self, width=width, patch_size=patch_size)
        checkpoint_activations(self, every=activation_checkpointing)

    def check_sharing(self, processes: int) -> None:
        check_sharing_of(self, processes)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        if self.needs_intrinsics and intrinsics is None:
            raise UnposedInputError("this RayZer needs true intrinsics: call estimate(images, intrinsics)")
        return self._cameras(images, self._tokens_of_all(images), intrinsics)

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> Scene:
        index = view_index(images) if index is None else index
        images, cameras, index = self.shares.own((images, cameras, index), "context views")
        return self._scene(images, self._image_tokens(images, index), cameras)

    def forward(self, views: Views) -> Prediction:
        """``estimate``, ``reconstruct`` and ``render`` in one call; it computes the image tokens only once."""
        intrinsics = self._known_cameras(views, "intrinsics").intrinsics if self.needs_intrinsics else None
        tokens = self._tokens_of_all(views.images)
        return self._predict(views, tokens, self._cameras(views.images, tokens, intrinsics))

    def predict(self, views: Views, cameras: Cameras) -> Prediction:
        return self._predict(views, self._tokens_of_all(views.images), cameras)

    def _predict(self, views: Views, tokens: Float[Tensor, "b own n d"], cameras: Cameras) -> Prediction:
        """Prediction from the tokens of the images of this process and the cameras of all views."""
        context = self.shares.own(views.context, "context views")
        of_context = select_views(self.shares.whole(tokens), context)
        scene = self._scene(select_views(views.images, context), of_context, cameras.select(context))
        targets = cameras.select(views.target)
        if self.training:
            return Prediction(self.render(scene, targets), cameras, extra_losses=self.scene.losses(scene))
        images, maps = self.scene.views(scene, targets)
        return Prediction(images, cameras, extra_images=maps)

    def _tokens_of_all(self, images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b own n d"]:
        """Tokens of all views of a clip; if processes share the views, those of this process."""
        return self._image_tokens(*self.shares.own((images, view_index(images))))

    def _image_tokens(self, images: Float[Tensor, "b v 3 h w"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v n d"]:
        grid = patch_grid(image_size_of(images), self.patch_size)
        return self.position_encoding.embed_patches(self.tokenizer(images), grid, index)

    def _cameras(
        self,
        images: Float[Tensor, "b v 3 h w"],
        tokens: Float[Tensor, "b own n d"],
        intrinsics: Float[Tensor, "b v 4"] | None,
    ) -> Cameras:
        """Cameras of all views, from all images and the tokens of the images of this process."""
        (b, v), image_size = tokens.shape[:2], image_size_of(images)
        positions, learned = patch_positions(patch_grid(image_size, self.patch_size), tokens.device), 0
        if not self.sees_patches:
            tokens, positions = tokens[:, :, :0], positions[:0]
        if self.camera_tokens is not None:
            learned = self.camera_tokens.shape[0]
            extra = repeat(self.camera_tokens, "c d -> b v c d", b=b, v=v).to(tokens.dtype)
            if self.pair_tokens is not None:
                extra = extra + self.shares.own(self.pair_tokens(images))[:, :, None].to(tokens.dtype)
            index = self.shares.own(view_index(images))
            tokens = torch.cat([self.position_encoding.embed_cameras(extra, index), tokens], dim=2)
            positions = torch.cat([positions.new_zeros(learned, 2), positions])
        positions = repeat(positions, "n two -> b v n two", b=b, v=v)
        seen = self.estimator.over_views(tokens, positions, self.layout, self.position_encoding, self.backend)
        read = seen[:, :, : self.num_camera_tokens] if self.num_camera_tokens else seen[:, :, learned:]
        cameras = self.camera_head(self.shares.whole(read), image_size)
        return cameras if intrinsics is None else replace(cameras, intrinsics=full_precision(intrinsics))

    def _scene(self, images: Tensor, tokens: Float[Tensor, "b v n d"], cameras: Cameras) -> Scene:
        fused = self.fusion(images, tokens, plucker_rays(cameras, image_size_of(images)))
        return self.scene.encode(fused, images, cameras)


def _check_views_meet(layout: AttentionLayout, camera_head: CameraHead, depth: int) -> None:
    alone = all(layout.groups(block) == "(b v) n" for block in range(depth))
    if alone and not camera_head.compares_views:
        raise InputError(
            f"in layout {type(layout).__name__} with estimator_depth {depth}, views do not attend to each other, and "
            f"camera head {type(camera_head).__name__} reads each view alone, so each pose would depend on one image; "
            "take the layout 'global' or 'vggt_alternating', more blocks, or the camera head 'rot6d'"
        )


def _check_matches(matcher: Matcher | None, estimator_sees: str, num_camera_tokens: int) -> None:
    wanted = estimator_sees != "patches"
    if wanted != (matcher is not None) or (wanted and not num_camera_tokens):
        raise InputError(
            "estimator_sees 'matches' and 'both' need a matcher and one camera token or more, and 'patches' needs no "
            f"matcher; got {estimator_sees!r}, {type(matcher).__name__} and num_camera_tokens {num_camera_tokens}"
        )


def _check_intrinsics(intrinsics: str, camera_head: CameraHead) -> None:
    name = type(camera_head).__name__
    if intrinsics == "given" and camera_head.predicts_intrinsics:
        raise InputError(
            f"intrinsics 'given' cannot be combined with camera head {name}, which predicts intrinsics; take a head "
            'that predicts none, e.g. {"type": "pi3", "field_of_view": "fixed"}'
        )


def _ray_tokenizer_of(fusion: Fusion) -> PatchLinear:
    rays = getattr(fusion, "rays", None)
    if not isinstance(rays, PatchLinear):
        raise InputError(
            f"share_ray_tokens needs weights for rays alone, and fusion {type(fusion).__name__} has none; "
            "take the fusion 'token_mlp' or 'residual_mlp'"
        )
    return rays


def _check_gaussians(num_latents: int, patch_positions: str, *, share_ray_tokens: bool) -> None:
    if num_latents or patch_positions != "grid" or share_ray_tokens:
        raise InputError(
            "a scene of Gaussians comes from the context tokens: it needs num_latents 0, patch_positions 'grid' and "
            f"share_ray_tokens false, got {num_latents}, {patch_positions!r} and {str(share_ray_tokens).lower()}"
        )
