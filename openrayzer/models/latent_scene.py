"""From posed views to scene tokens, and from scene tokens to posed views: shared by RayZer and LVSM."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.geometry.rays import patch_angles, plucker_rays
from openrayzer.interfaces import (
    AttentionBackend,
    CameraHead,
    ContextRenderer,
    Fusion,
    InputError,
    Model,
    PositionEncoding,
    Tokenizer,
    TokenRenderer,
)
from openrayzer.layers.init import learned_tokens
from openrayzer.layers.patches import PatchLinear, PatchPixels, image_size_of, patch_grid, patch_positions
from openrayzer.layers.stack import SelfStack
from openrayzer.layers.view_shares import SharesViews, check_heads
from openrayzer.models.scene_network import SceneNetwork
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras, Scene, map_tensors

EncoderKind = Literal["joint", "per_view", "alternating"]
"""The tokens that attend to each other in an encoder: all, those of one view, or each in turn, one view first."""


class LatentScene(SceneNetwork[TokenScene], SharesViews):
    """Encodes context tokens into a scene, and renders views of it.

    With ``num_latents`` above 0, the scene consists of this number of learned latents, after blocks in which they
    attend to the context tokens. With 0, the scene consists of the context tokens. For a renderer that reads several
    layers, the scene also has the same tokens after earlier blocks.

    If processes share the views of a clip, each has its share of the latents, of the context tokens and of the scene.

    Args:
        width: token width d.
        num_heads: attention heads of the encoder.
        patch_size: side of a patch in pixels.
        num_latents: number of latents; 0 for none.
        depth: number of blocks of the encoder.
        encoder: the tokens that attend to each other in the encoder: all ("joint"), or those of one view ("per_view"),
            so that further views extend a scene at their own cost.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        patch_positions: position of a patch for a rotary encoding: its row and column ("grid"), or the direction of its
            ray in the world ("rays").
        renderer: target rays and scene tokens to tokens of images.
        position_encoding: rotates queries and keys.
        backend: computes attention.
        qk_norm_eps: epsilon of the RMS norm of queries and keys; None for no norm.
        input_norm: whether a LayerNorm precedes the encoder.
        norm_gain: whether the LayerNorms in the encoder have learned gains.
        pixel_norm_gain: whether the norm before the pixels has a learned gain.

    Raises:
        InputError: ``num_latents`` is negative, or above 0 with the encoder "per_view"; the encoder is "alternating",
            which is for Gaussians; or the encoding cannot rotate heads of this width.
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        patch_size: int,
        num_latents: int,
        depth: int,
        mlp_ratio: float,
        patch_positions: Literal["grid", "rays"],
        renderer: TokenRenderer,
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
        encoder: EncoderKind = "joint",
        qk_norm_eps: float | None = 1e-5,
        input_norm: bool = False,
        norm_gain: bool = True,
        pixel_norm_gain: bool = True,
    ) -> None:
        super().__init__()
        if num_latents < 0:
            raise InputError(f"num_latents must be 0 (the scene keeps the context tokens) or more, got {num_latents}")
        if num_latents and encoder == "per_view":
            raise InputError(
                f"num_latents must be 0 with the encoder 'per_view', got {num_latents}: latents attend to all views"
            )
        if encoder == "alternating":
            raise InputError(
                "the encoder 'alternating' needs a scene of Gaussians; take 'joint', or the renderer 'gaussians'"
            )
        self.patch_size, self.patch_positions, self.per_view = patch_size, patch_positions, encoder == "per_view"
        self.position_encoding, self.backend = position_encoding, backend
        self.latents = learned_tokens(num_latents, width) if num_latents else None
        self.encoder = SelfStack(
            width=width,
            num_heads=num_heads,
            depth=depth,
            mlp_ratio=mlp_ratio,
            qk_norm_eps=qk_norm_eps,
            input_norm=input_norm,
            norm_gain=norm_gain,
        )
        self.target_rays = PatchLinear(channels=6, patch_size=patch_size, width=width)
        position_encoding.rotation(torch.zeros(1, 1, 2), self.encoder.head_width)  # refuses a wrong head width at once
        self.renderer = renderer
        self.pixels = PatchPixels(width=width, patch_size=patch_size, norm_gain=pixel_norm_gain)

    @property
    def keeps_views_apart(self) -> bool:
        """Whether the scene is the list of the context tokens, view after view, and no view attends to another."""
        return self.latents is None and (self.per_view or not self.encoder.blocks)

    def encode(
        self, tokens: Float[Tensor, "b v n d"], images: Float[Tensor, "b v 3 h w"], cameras: Cameras
    ) -> TokenScene:
        image_size = image_size_of(images)
        b, groups = tokens.shape[0], "(b v) n" if self.per_view else "b (v n)"
        sequence = rearrange(tokens, f"b v n d -> {groups} d")
        positions = rearrange(self._positions(cameras, image_size), f"b v n two -> {groups} two")
        kept = sequence.shape[1]
        if self.latents is not None:
            latents = self.shares.own(repeat(self.latents, "k d -> b k d", b=b), "latents").to(tokens.dtype)
            kept = latents.shape[1]
            sequence = torch.cat([latents, sequence], dim=1)
            positions = torch.cat([positions.new_zeros(b, kept, 2), positions], dim=1)
        layers = self._layers(sequence, positions)
        *earlier, last = [rearrange(layer[:, :kept], "(b v) n d -> b (v n) d", b=b) for layer in layers]
        positions = rearrange(positions[:, :kept], "(b v) n two -> b (v n) two", b=b)
        return TokenScene(last, positions, earlier=tuple(earlier), image_size=image_size)

    def _layers(
        self, sequence: Float[Tensor, "b n d"], positions: Float[Tensor, "b n 2"]
    ) -> list[Float[Tensor, "b n d"]]:
        """Tokens after the blocks that the renderer reads, in order; the last block is always the last of them."""
        blocks, layers = len(self.encoder.blocks), self.renderer.num_layers
        read = [math.ceil(number * blocks / layers) for number in range(1, layers + 1)]
        backend = self.backend if self.per_view else self.shares.attention(self.backend)
        steps = self.encoder.each_block(sequence, positions, self.position_encoding, backend)
        after = {number: tokens for number, tokens in enumerate(steps) if number in read}
        return [after[number] for number in read]

    def render(self, scene: TokenScene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        """Views of a scene, in [0, 1], float32."""
        num_views = cameras.num_views
        cameras = self.shares.own(cameras, fill=True)  # no view has influence on another one
        if not self.renderer.reads_shares:
            scene = map_tensors(scene, self.shares.whole)
        known = {"prepared": scene.prepared} if scene.prepared else _earlier(scene)
        tokens = self.renderer(
            self.target_rays(plucker_rays(cameras, scene.image_size)),
            scene.tokens,
            positions=self._positions(cameras, scene.image_size),
            memory_positions=scene.positions,
            position_encoding=self.position_encoding,
            backend=self.backend,
            **known,
        )
        return self.shares.whole(self.pixels(tokens, scene.image_size))[:, :num_views]

    def prepare(self, scene: TokenScene) -> TokenScene:
        """The scene with the tensors that its renderings share, in place of the layers from which they come."""
        if scene.prepared:
            return scene
        positions, encoding = scene.positions, self.position_encoding
        prepared = self.renderer.prepare(
            scene.tokens, memory_positions=positions, position_encoding=encoding, **_earlier(scene)
        )
        return replace(scene, prepared=prepared, earlier=()) if prepared else scene

    def joined(self, scene: TokenScene, later: TokenScene) -> TokenScene:
        return super().joined(scene, self.prepare(later) if scene.prepared else later)

    def num_views(self, scene: TokenScene) -> int:
        """Number of context views of a scene that keeps views apart."""
        rows, columns = patch_grid(scene.image_size, self.patch_size)
        return scene.tokens.shape[1] // (rows * columns)

    def _positions(self, cameras: Cameras, image_size: tuple[int, int]) -> Float[Tensor, "b v n 2"]:
        grid = patch_grid(image_size, self.patch_size)
        if self.patch_positions == "rays":  # the same distances as on the grid, for a focal length of one image side
            return patch_angles(cameras, grid) * min(grid)
        patches = patch_positions(grid, cameras.c2w.device)
        return repeat(patches, "n two -> b v n two", b=cameras.c2w.shape[0], v=cameras.num_views)


class LatentSceneModel(Model[Any], SharesViews):
    """A model with a ``SceneNetwork``, which renders, prepares and extends."""

    scene: SceneNetwork[Any]
    fusion: Fusion

    def extend(
        self,
        scene: Scene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> Scene:
        if not self.scene.keeps_views_apart:
            return super().extend(scene, images, cameras, index)
        if not self.fusion.keeps_views_apart:
            raise InputError(
                f"{type(self).__name__} cannot add views to a scene, because fusion {type(self.fusion).__name__} marks "
                "the first view of a list; reconstruct the scene anew from all views"
            )
        self.check_extension(scene, images)
        places = view_index(images) + self.scene.num_views(scene) if index is None else index
        return self.scene.joined(scene, self.reconstruct(images, cameras, places))

    def render(self, scene: Scene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        return self.scene.render(scene, cameras)

    def render_maps(self, scene: Scene, cameras: Cameras) -> Mapping[str, Float[Tensor, "b v _ h w"]]:
        return self.scene.views(scene, cameras).maps

    def prepare(self, scene: Scene) -> Scene:
        return self.scene.prepare(scene)


def check_sharing_of(model: LatentSceneModel, processes: int) -> None:
    """``Model.check_sharing`` of a model that divides its context views.

    Raises:
        InputError: its scenes, its fusion, its number of latents or its number of heads do not allow it.
    """
    name, scene, fusion = type(model).__name__, model.scene, model.fusion
    if not isinstance(scene, LatentScene):
        raise InputError(
            f"{name} with scenes of Gaussians cannot divide the views of a clip among processes; 1 would work, and so "
            "would a renderer of tokens, e.g. 'reading'"
        )
    if not fusion.shares_views:
        raise InputError(
            f"fusion {type(fusion).__name__} cannot divide the views of a clip among processes; 1 would work, and so "
            "would the fusion 'token_mlp'"
        )
    check_heads(model, processes)
    if scene.latents is not None and scene.latents.shape[0] % processes:
        raise InputError(
            f"{processes} does not divide the {scene.latents.shape[0]} latents of a scene (model.num_latents); "
            f"model.num_latents={-(-scene.latents.shape[0] // processes) * processes} would work"
        )


def _earlier(scene: TokenScene) -> dict[str, tuple[Tensor, ...]]:
    """The keyword ``earlier`` of a renderer that reads several layers."""
    return {"earlier": scene.earlier} if scene.earlier else {}


def view_index(values: Float[Tensor, "b v ..."]) -> Int[Tensor, "b v"]:
    """0, 1, 2, ... for the views of each batch element: their positions in this list."""
    return repeat(torch.arange(values.shape[1], device=values.device), "v -> b v", b=values.shape[0])


def check_sizes(model: nn.Module, *, width: int, patch_size: int) -> None:
    """Refuse parts of other sizes. Parts state their sizes as attributes.

    Raises:
        InputError: the ``width`` or ``patch_size`` of parts differs; the message names these parts.
    """
    wanted = {"width": width, "patch_size": patch_size}
    problems = [
        f"{type(part).__name__} was built with {size} {getattr(part, size)}, the model has {value}"
        for part in model.modules()
        if isinstance(part, Tokenizer | PositionEncoding | CameraHead | Fusion | ContextRenderer)
        for size, value in wanted.items()
        if getattr(part, size, value) != value
    ]
    if problems:
        raise InputError("; ".join(problems) + "; give all parts the same sizes, e.g. under 'shared'")
