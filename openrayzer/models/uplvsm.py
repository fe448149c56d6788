"""Model: UP-LVSM, from images without poses; it finds the camera of a view in the scene of the context views."""

from dataclasses import replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.precision import full_precision
from openrayzer.geometry.rays import plucker_rays
from openrayzer.interfaces import (
    MODELS,
    AttentionBackend,
    CameraHead,
    Fusion,
    InputError,
    PositionEncoding,
    Tokenizer,
    TokenRenderer,
    UnposedInputError,
)
from openrayzer.layers.patches import image_size_of, patch_grid, patch_positions
from openrayzer.layers.stack import SelfStack, checkpoint_activations
from openrayzer.models.latent_scene import (
    LatentScene,
    LatentSceneModel,
    check_sharing_of,
    check_sizes,
    view_index,
)
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras, Prediction, Views, select_views


@MODELS.register("uplvsm")
class UPLVSM(LatentSceneModel):
    """UP-LVSM: the scene comes first, from images alone; then each camera, from its own image and the scene.

    The context views give a scene without their poses. The fusion gets the rays of each context view in the frame of
    its own camera, from the true intrinsics; with "first_view_rays", they mark the first context view. To find the
    camera of a view, an estimator reads the tokens of its image beside the scene, and the camera head computes a pose
    in the world frame of the scene. Nothing but this pose and the true intrinsics of a target reaches the renderer. The
    placements ``joint`` and ``context_only`` are therefore the same.

    Args:
        width: token width d.
        num_heads: attention heads of estimator and encoder.
        patch_size: side of a patch in pixels.
        tokenizer: images to tokens; "dinov2" as published.
        position_encoding: encoding of image tokens, and of queries and keys in all stacks; "none" as published.
        camera_head: tokens of a view after the estimator to its camera; "absolute_quaternion" as published.
        fusion: context images and rays to tokens; "first_view_rays" as published.
        renderer: target rays and memory to views; "joint" as published.
        attention: computes attention in all stacks.
        encoder_depth: number of blocks of the scene encoder.
        estimator_depth: number of blocks of the camera estimator.
        num_latents: number of latents of a scene; 0 for a scene of context tokens.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        qk_norm_eps: epsilon of the RMS norm of queries and keys in estimator and encoder, 1e-3 as published; null for
            no norm. The renderer has its own norm.
        activation_checkpointing: n recomputes every n-th block in the backward pass, to save memory; 0 recomputes none.

    Raises:
        InputError: the parts cannot be combined; the message names them.

    Source: Wang et al. 2025, "The Less You Depend, The More You Learn".
    """

    posed = False
    needs_intrinsics = True
    locates_in_scene = True

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        patch_size: int,
        tokenizer: Tokenizer,
        position_encoding: PositionEncoding,
        camera_head: CameraHead,
        fusion: Fusion,
        renderer: TokenRenderer,
        attention: AttentionBackend,
        encoder_depth: int,
        estimator_depth: int,
        num_latents: int,
        mlp_ratio: float = 4.0,
        qk_norm_eps: float | None = 1e-3,
        activation_checkpointing: int = 0,
    ) -> None:
        super().__init__()
        _check_head(camera_head)
        self.patch_size, self.tokenizer, self.position_encoding = patch_size, tokenizer, position_encoding
        self.fusion, self.camera_head, self.backend = fusion, camera_head, attention
        self.scene = LatentScene(
            width=width,
            num_heads=num_heads,
            patch_size=patch_size,
            num_latents=num_latents,
            depth=encoder_depth,
            mlp_ratio=mlp_ratio,
            patch_positions="grid",
            renderer=renderer,
            position_encoding=position_encoding,
            backend=attention,
            qk_norm_eps=qk_norm_eps,
        )
        self.estimator = SelfStack(
            width=width, num_heads=num_heads, depth=estimator_depth, mlp_ratio=mlp_ratio, qk_norm_eps=qk_norm_eps
        )
        check_sizes(self, width=width, patch_size=patch_size)
        checkpoint_activations(self, every=activation_checkpointing)

    def check_sharing(self, processes: int) -> None:
        check_sharing_of(self, processes)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        """Cameras of the views, each found in the scene of all of them."""
        known = self._known(intrinsics)
        images, own, index = self.shares.own((images, known, view_index(images)))
        tokens = self._image_tokens(images, index)
        return self._located(self._scene(images, tokens, own), tokens, known)

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> TokenScene:
        """The scene that the context views show; their poses have no influence."""
        index = view_index(images) if index is None else index
        images, intrinsics, index = self.shares.own((images, cameras.intrinsics, index), "context views")
        return self._scene(images, self._image_tokens(images, index), intrinsics)

    def locate(
        self,
        scene: TokenScene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        context_images: Float[Tensor, "b vc 3 h w"],
        *,
        intrinsics: Float[Tensor, "b v 4"] | None = None,
        index: Int[Tensor, "b v"] | None = None,
        context_index: Int[Tensor, "b vc"] | None = None,
    ) -> Cameras:
        """Cameras of further views, each from its own image and the scene. The context views have no influence."""
        index = view_index(images) if index is None else index
        return self._located(scene, self._image_tokens(*self.shares.own((images, index))), self._known(intrinsics))

    def cameras_of(self, views: Views) -> Cameras:
        """Cameras of all views, found in the scene of the context views alone."""
        return self._placed(views)[1]

    def forward(self, views: Views) -> Prediction:
        """Reconstruct the scene of the context views, locate all views in it, render the target views."""
        scene, cameras = self._placed(views)
        return Prediction(self.render(scene, cameras.select(views.target)), cameras)

    def _placed(self, views: Views) -> tuple[TokenScene, Cameras]:
        known = self._known_cameras(views, "intrinsics").intrinsics
        tokens = self._image_tokens(*self.shares.own((views.images, view_index(views.images))))
        context = self.shares.own(views.context, "context views")
        of_context = select_views(self.shares.whole(tokens), context)
        scene = self._scene(select_views(views.images, context), of_context, select_views(known, context))
        return scene, self._located(scene, tokens, known)

    def _known(self, intrinsics: Float[Tensor, "b v 4"] | None) -> Float[Tensor, "b v 4"]:
        if intrinsics is None:
            raise UnposedInputError("UP-LVSM needs true intrinsics: call estimate(images, intrinsics)")
        return intrinsics

    def _image_tokens(self, images: Float[Tensor, "b v 3 h w"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v n d"]:
        grid = patch_grid(image_size_of(images), self.patch_size)
        return self.position_encoding.embed_patches(self.tokenizer(images), grid, index)

    def _scene(
        self, images: Float[Tensor, "b v 3 h w"], tokens: Float[Tensor, "b v n d"], intrinsics: Float[Tensor, "b v 4"]
    ) -> TokenScene:
        known = full_precision(intrinsics)
        own_frame = torch.eye(4, dtype=known.dtype, device=known.device).expand(*known.shape[:2], 4, 4)
        cameras, size = Cameras(own_frame, known), image_size_of(images)
        return self.scene.encode(self.fusion(images, tokens, plucker_rays(cameras, size)), images, cameras)

    def _located(
        self, scene: TokenScene, tokens: Float[Tensor, "b own n d"], intrinsics: Float[Tensor, "b v 4"]
    ) -> Cameras:
        """Cameras of all views, from the image tokens of this process and the intrinsics of all views."""
        (b, v, n), scene = tokens.shape[:3], self.shares.whole(scene)
        memory = repeat(scene.tokens, "b k d -> (b v) k d", v=v)
        sequence = torch.cat([rearrange(tokens, "b v n d -> (b v) n d").to(memory.dtype), memory], dim=1)
        patches = patch_positions(patch_grid(scene.image_size, self.patch_size), tokens.device)
        positions = torch.cat(
            [
                repeat(patches, "n two -> (b v) n two", b=b, v=v),
                repeat(scene.positions, "b k two -> (b v) k two", v=v),
            ],
            dim=1,
        )
        seen = self.estimator(sequence, positions, self.position_encoding, self.backend)[:, :n]
        cameras = self.camera_head(rearrange(seen, "(b v) n d -> b v n d", b=b), scene.image_size)
        return replace(self.shares.whole(cameras), intrinsics=full_precision(intrinsics))


def _check_head(camera_head: CameraHead) -> None:
    name, remedy = type(camera_head).__name__, "take the camera head 'absolute_quaternion'"
    if camera_head.compares_views:
        raise InputError(f"camera head {name} compares views, and UP-LVSM locates each view by itself; {remedy}")
    if camera_head.predicts_intrinsics:
        raise InputError(f"camera head {name} predicts intrinsics, and UP-LVSM is given them; {remedy}")
