"""From posed views to scene tokens, and from scene tokens to posed views: shared by RayZer and LVSM."""

from dataclasses import replace
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.geometry.rays import patch_angles, plucker_rays
from openrayzer.interfaces import (
    AttentionBackend,
    CameraHead,
    Fusion,
    InputError,
    Model,
    PositionEncoding,
    Tokenizer,
    TokenRenderer,
)
from openrayzer.layers.init import learned_tokens
from openrayzer.layers.patches import PatchLinear, PatchPixels, patch_grid, patch_positions
from openrayzer.layers.stack import SelfStack
from openrayzer.models.token_scene import TokenScene
from openrayzer.types import Cameras


class LatentScene(nn.Module):
    """Encodes context tokens into a scene, and renders views of it.

    With ``num_latents`` above 0, the scene consists of this number of learned latents, after blocks in which they
    attend to the context tokens. With 0, the scene consists of the context tokens.

    Args:
        width: token width d.
        num_heads: attention heads of the encoder.
        patch_size: side of a patch in pixels.
        num_latents: number of latents; 0 for none.
        depth: number of blocks of the encoder.
        mlp_ratio: hidden width of the feed-forward layers, in token widths.
        patch_positions: position of a patch for a rotary encoding: its row and column ("grid"), or the direction of its
            ray in the world ("rays").
        renderer: target rays and scene tokens to tokens of images.
        position_encoding: rotates queries and keys.
        backend: computes attention.
        qk_norm_eps: epsilon of the RMS norm of queries and keys; None for no norm.
        input_norm: whether a LayerNorm precedes the encoder.
        pixel_norm_gain: whether the norm before the pixels has a learned gain.

    Raises:
        InputError: ``num_latents`` is negative, or the encoding cannot rotate heads of this width.
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
        qk_norm_eps: float | None = 1e-5,
        input_norm: bool = False,
        pixel_norm_gain: bool = True,
    ) -> None:
        super().__init__()
        if num_latents < 0:
            raise InputError(f"num_latents must be 0 (the scene keeps the context tokens) or more, got {num_latents}")
        self.patch_size, self.patch_positions = patch_size, patch_positions
        self.position_encoding, self.backend = position_encoding, backend
        self.latents = learned_tokens(num_latents, width) if num_latents else None
        self.encoder = SelfStack(
            width=width,
            num_heads=num_heads,
            depth=depth,
            mlp_ratio=mlp_ratio,
            qk_norm_eps=qk_norm_eps,
            input_norm=input_norm,
        )
        self.target_rays = PatchLinear(channels=6, patch_size=patch_size, width=width)
        position_encoding.rotation(torch.zeros(1, 1, 2), self.encoder.head_width)  # refuses a wrong head width at once
        self.renderer = renderer
        self.pixels = PatchPixels(width=width, patch_size=patch_size, norm_gain=pixel_norm_gain)

    @property
    def keeps_views_apart(self) -> bool:
        """Whether the scene is the list of the context tokens, view after view, and no view attends to another."""
        return self.latents is None and not self.encoder.blocks

    def encode(self, tokens: Float[Tensor, "b v n d"], cameras: Cameras, image_size: tuple[int, int]) -> TokenScene:
        """The scene of context views, from tokens of their colours and rays."""
        positions = rearrange(self._positions(cameras, image_size), "b v n two -> b (v n) two")
        sequence = rearrange(tokens, "b v n d -> b (v n) d")
        kept = sequence.shape[1]
        if self.latents is not None:
            kept = self.latents.shape[0]
            latents = repeat(self.latents, "k d -> b k d", b=tokens.shape[0]).to(tokens.dtype)
            sequence = torch.cat([latents, sequence], dim=1)
            positions = torch.cat([positions.new_zeros(positions.shape[0], kept, 2), positions], dim=1)
        sequence = self.encoder(sequence, positions, self.position_encoding, self.backend)
        return TokenScene(sequence[:, :kept], positions[:, :kept], image_size=image_size)

    def render(self, scene: TokenScene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        """Views of a scene, in [0, 1], float32."""
        known = {"prepared": scene.prepared} if scene.prepared else {}
        tokens = self.renderer(
            self.target_rays(plucker_rays(cameras, scene.image_size)),
            scene.tokens,
            positions=self._positions(cameras, scene.image_size),
            memory_positions=scene.positions,
            position_encoding=self.position_encoding,
            backend=self.backend,
            **known,
        )
        return self.pixels(tokens, scene.image_size)

    def prepare(self, scene: TokenScene) -> TokenScene:
        """The scene with the tensors that its renderings share."""
        positions, encoding = scene.positions, self.position_encoding
        prepared = self.renderer.prepare(scene.tokens, memory_positions=positions, position_encoding=encoding)
        return replace(scene, prepared=prepared) if prepared else scene

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


class LatentSceneModel(Model[TokenScene]):
    """A model with a ``LatentScene``, which renders, prepares and extends."""

    scene: LatentScene

    def extend(
        self,
        scene: TokenScene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> TokenScene:
        if not self.scene.keeps_views_apart:
            return super().extend(scene, images, cameras, index)
        self.check_extension(scene, images)
        places = view_index(images) + self.scene.num_views(scene) if index is None else index
        longer = scene.joined(self.reconstruct(images, cameras, places))
        return self.prepare(longer) if scene.prepared else longer

    def render(self, scene: TokenScene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        return self.scene.render(scene, cameras)

    def prepare(self, scene: TokenScene) -> TokenScene:
        return self.scene.prepare(scene)


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
        if isinstance(part, Tokenizer | PositionEncoding | CameraHead | Fusion | TokenRenderer)
        for size, value in wanted.items()
        if getattr(part, size, value) != value
    ]
    if problems:
        raise InputError("; ".join(problems) + "; give all parts the same sizes, e.g. under 'shared'")
