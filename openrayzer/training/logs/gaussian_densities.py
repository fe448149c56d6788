"""Figures of the Gaussians of a training step, for metrics.jsonl."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces import Gaussians, Rasteriser
from openrayzer.interfaces.gaussians import TRANSPARENT

FIGURES = ("gaussians_seen", "gaussians_transparent", "gaussians_opacity", "gaussians_scale")
"""Share of the Gaussians that a target view sees, share with an opacity below ``TRANSPARENT``, mean opacity, and mean
scale in units of the scene."""


class GaussianDensities:
    """Watches the renderers with a rasteriser in a model. Their ``forward`` takes Gaussians, cameras and an image size.

    Args:
        model: searched for renderers; without one, there are no figures and no costs.
    """

    def __init__(self, model: nn.Module) -> None:
        self._renderers = [
            module for module in model.modules() if isinstance(getattr(module, "rasteriser", None), Rasteriser)
        ]
        self._found: list[Tensor] = []

    @contextmanager
    def watching(self, due: bool) -> Iterator[None]:
        """Measure the Gaussians that are drawn in the ``with`` block, if ``due``."""
        self._found = []
        hooks = [renderer.register_forward_hook(self._measure) for renderer in self._renderers if due]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def figures(self) -> Mapping[str, Float[Tensor, ""]]:
        """``FIGURES`` by name, means over the drawings of the last block; empty if there were none."""
        if not self._found:
            return {}
        return dict(zip(FIGURES, torch.stack(self._found).mean(0).unbind(), strict=True))

    @torch.no_grad()
    def _measure(self, renderer: nn.Module, given: Any, result: Any) -> None:
        gaussians, cameras, image_size = given
        assert isinstance(renderer.rasteriser, Rasteriser)
        assert isinstance(gaussians, Gaussians)
        seen = renderer.rasteriser.seen(gaussians, cameras, image_size)
        transparent = gaussians.opacities < TRANSPARENT
        values = (seen, transparent, gaussians.opacities, gaussians.scales)
        self._found.append(torch.stack([value.float().mean() for value in values]))
