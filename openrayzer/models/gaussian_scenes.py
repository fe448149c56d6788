"""From posed views to scenes of Gaussians, and from these scenes to views."""

from collections.abc import Mapping

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import (
    AttentionBackend,
    AttentionLayout,
    GaussianRenderer,
    GaussianScene,
    PositionEncoding,
    RenderedViews,
)
from openrayzer.layers.patches import image_size_of, patch_grid, patch_positions
from openrayzer.layers.stack import SelfStack
from openrayzer.models.latent_scene import EncoderKind
from openrayzer.models.scene_network import SceneNetwork
from openrayzer.types import Cameras


class EncoderLayout(AttentionLayout):
    """The layout of an encoder of this kind."""

    def __init__(self, kind: EncoderKind) -> None:
        super().__init__()
        self.kind = kind

    def groups(self, block: int) -> str:
        within_view = self.kind == "per_view" or (self.kind == "alternating" and block % 2 == 0)
        return "(b v) n" if within_view else "b (v n)"


class GaussianScenes(SceneNetwork[GaussianScene]):
    """Encodes context tokens, turns them into Gaussians, and draws these.

    Args:
        encoder: blocks before the tokens become Gaussians.
        kind: the tokens that attend to each other in the encoder.
        renderer: tokens to Gaussians, and Gaussians to views.
        position_encoding: rotates queries and keys.
        backend: computes attention.

    Raises:
        InputError: the encoding cannot rotate heads of the width of the encoder.
    """

    def __init__(
        self,
        *,
        encoder: SelfStack,
        kind: EncoderKind,
        renderer: GaussianRenderer,
        position_encoding: PositionEncoding,
        backend: AttentionBackend,
    ) -> None:
        super().__init__()
        position_encoding.rotation(torch.zeros(1, 1, 2), encoder.head_width)  # refuses a wrong head width at once
        self.encoder, self.layout, self.renderer = encoder, EncoderLayout(kind), renderer
        self.position_encoding, self.backend = position_encoding, backend

    @property
    def keeps_views_apart(self) -> bool:
        return all(self.layout.groups(block) == "(b v) n" for block in range(len(self.encoder.blocks)))

    def encode(
        self, tokens: Float[Tensor, "b v n d"], images: Float[Tensor, "b v 3 h w"], cameras: Cameras
    ) -> GaussianScene:
        (b, v), image_size = tokens.shape[:2], image_size_of(images)
        positions = patch_positions(patch_grid(image_size, self.renderer.patch_size), tokens.device)
        positions = repeat(positions, "n two -> b v n two", b=b, v=v)
        seen = self.encoder.over_views(tokens, positions, self.layout, self.position_encoding, self.backend)
        return GaussianScene(self.renderer.gaussians(seen, images, cameras), image_size=image_size)

    def render(self, scene: GaussianScene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        return self.renderer(scene.gaussians, cameras, scene.image_size).images

    def views(self, scene: GaussianScene, cameras: Cameras) -> RenderedViews:
        seen = self.renderer(scene.gaussians, cameras, scene.image_size)
        return RenderedViews(seen.images, {"depth": seen.depth, "opacity": seen.opacity})

    def num_views(self, scene: GaussianScene) -> int:
        height, width = scene.image_size
        return scene.gaussians.num_gaussians * self.renderer.pixels_per_gaussian**2 // (height * width)

    def losses(self, scene: GaussianScene) -> Mapping[str, Float[Tensor, ""]]:
        return self.renderer.losses(scene.gaussians)
