"""The baselines by name."""

from collections.abc import Sequence

import torch

from openrayzer.evaluation.baselines.baseline import Baseline
from openrayzer.evaluation.baselines.colmap_cameras import ColmapCameras
from openrayzer.evaluation.baselines.untrained_geometry import UntrainedGeometry, untrained_geometry
from openrayzer.evaluation.metrics.image_scores import ImageScores
from openrayzer.interfaces import InputError
from openrayzer.machine import FittingBatches
from registry import did_you_mean

NAMES = (UntrainedGeometry.name, ColmapCameras.name)
"""Names of all baselines that look at the images."""


def open_baselines(
    names: Sequence[str],
    *,
    image_size: tuple[int, int],
    placements: Sequence[str],
    scores: ImageScores,
    device: torch.device,
    batches: FittingBatches,
) -> tuple[tuple[Baseline, ...], list[str]]:
    """The baselines with these names, and a sentence for each that does not fit the images.

    Args:
        names: some of ``NAMES``.
        image_size: height and width in pixels.
        placements: names of the placements of the evaluated model.
        scores: the image metrics.
        device: device of the views.
        batches: how many targets are rendered together.

    Raises:
        InputError: there is no such baseline, or its package is not installed.
    """
    opened: list[Baseline] = []
    notes = []
    for name in dict.fromkeys(names):
        if name not in NAMES:
            raise InputError(f"no baseline named {name!r}{did_you_mean(name, list(NAMES))}")
        if name == ColmapCameras.name:
            opened.append(ColmapCameras())
            continue
        model = untrained_geometry()
        try:
            model.check_size(image_size)
        except InputError as error:
            notes.append(f"no baseline {name}: {error}")
            continue
        opened.append(UntrainedGeometry(model.to(device), placements=placements, scores=scores, batches=batches))
    return tuple(opened), notes
