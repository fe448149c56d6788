"""Base class of networks from tokens of context views to a scene, and from a scene to views."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import RenderedViews
from openrayzer.types import Cameras, SceneKind, map_tensors, tensors_of


class SceneNetwork(nn.Module, ABC, Generic[SceneKind]):
    """Encodes context tokens into a scene, and renders views of it."""

    def __init__(self) -> None:
        super().__init__()

    @property
    @abstractmethod
    def keeps_views_apart(self) -> bool:
        """Whether the scene is a list of parts, one for each context view, and no view attends to another."""

    @abstractmethod
    def encode(
        self, tokens: Float[Tensor, "b v n d"], images: Float[Tensor, "b v 3 h w"], cameras: Cameras
    ) -> SceneKind:
        """The scene of context views, from tokens of their colours and rays.

        Args:
            tokens: one token per patch, row by row.
            images: the context views, in [0, 1].
            cameras: their cameras.
        """

    @abstractmethod
    def render(self, scene: SceneKind, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        """Views of a scene, in float32."""

    def views(self, scene: SceneKind, cameras: Cameras) -> RenderedViews:
        """Views of a scene with further maps, see ``Model.render_maps``; no maps by default."""
        return RenderedViews(self.render(scene, cameras), {})

    def prepare(self, scene: SceneKind) -> SceneKind:
        """The scene with the tensors that its renderings share; the same scene by default."""
        return scene

    @abstractmethod
    def num_views(self, scene: SceneKind) -> int:
        """Number of context views of a scene that keeps views apart."""

    def joined(self, scene: SceneKind, later: SceneKind) -> SceneKind:
        """The parts of ``scene`` followed by those of ``later``, of a network that keeps views apart."""
        others = iter(tensors_of(later))
        return map_tensors(scene, lambda tensor: torch.cat([tensor, next(others)], dim=1))

    def losses(self, scene: SceneKind) -> Mapping[str, Float[Tensor, ""]]:
        """Losses on a scene by name, which training adds with weight 1; none by default."""
        return {}
