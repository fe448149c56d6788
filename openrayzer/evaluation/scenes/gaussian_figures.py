"""Scenes of Gaussians in an evaluation: their numbers, and some of their centres for plots."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from openrayzer.geometry.similarity import Similarity
from openrayzer.interfaces import GaussianScene
from openrayzer.interfaces.explicit_scenes import CONSTANT_HARMONIC
from openrayzer.interfaces.gaussians import TRANSPARENT
from openrayzer.types import Scene

CENTRES = 800
"""Most centres of a scene in a plot."""
CLEAR = 0.05
"""Least opacity of a Gaussian in a plot, so that it shows the surfaces."""
_DIGITS = 4  # significant digits of centres


def gaussian_numbers(scenes: Mapping[str, Scene], row: int) -> dict[str, dict[str, float]]:
    """Placement -> number of Gaussians of a scene, and share with an opacity below ``TRANSPARENT``; {} without them.

    Args:
        scenes: the batch of scenes of each placement.
        row: position of the scene in the batch.
    """
    return {
        name: {
            "gaussians": float(scene.gaussians.num_gaussians),
            "gaussians_transparent": float((scene.gaussians.opacities[row] < TRANSPARENT).float().mean()),
        }
        for name, scene in scenes.items()
        if isinstance(scene, GaussianScene)
    }


def gaussian_centres(scene: Scene, row: int, similarity: Similarity | None) -> dict[str, Any]:
    """Positions [x, y, z] and colours "#rrggbb" of some clear Gaussians, for a plot of the cameras; {} without them.

    Args:
        scene: a batch of scenes.
        row: position of the scene in the batch.
        similarity: maps the world frame of the scene to that of the plot; None keeps it.
    """
    if not isinstance(scene, GaussianScene):
        return {}
    gaussians = scene.gaussians
    means, opacities = gaussians.means[row].float().cpu(), gaussians.opacities[row].cpu()
    clear = (means.isfinite().all(-1) & (opacities >= CLEAR)).nonzero()[:, 0]
    if not len(clear):
        return {}
    chosen = clear[torch.linspace(0, len(clear) - 1, min(len(clear), CENTRES)).round().long()]
    colours = 0.5 + CONSTANT_HARMONIC * gaussians.harmonics[row, :, 0].float().cpu()[chosen]
    places = means[chosen] if similarity is None else _moved(means[chosen], similarity)
    return {
        "positions": [[float(f"{value:.{_DIGITS}g}") for value in place] for place in places.tolist()],
        "colours": ["#" + bytes(colour).hex() for colour in (255 * colours.clamp(0, 1)).round().int().tolist()],
    }


def _moved(points: Tensor, similarity: Similarity) -> Tensor:
    """Points (n, 3) in the frame to which the similarity maps, as the centres of poses."""
    poses = torch.eye(4).repeat(1, len(points), 1, 1)
    poses[0, :, :3, 3] = points
    return similarity.poses(poses)[0, :, :3, 3]
