"""Shapes of the clips that a view sampler cuts, without any data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from openrayzer.interfaces import InputError, UnusableSceneError, ViewSampler
from openrayzer.types import Cameras, Views

NUM_FRAMES = 10_000
"""Frames of the scene that is imagined: more than any window needs."""
_DRAWS = 64
_NAMES = 200


@dataclass(frozen=True, order=True)
class ClipShape:
    """Numbers of views of one clip; ``views`` counts one that is context and target once."""

    views: int
    context: int
    target: int


def clip_shapes(sampler: ViewSampler, *, steps: int, seed: int = 0) -> list[ClipShape]:
    """The different shapes that a run's clips have, smallest first.

    A sampler that refuses a scene it has never heard of holds tables of scenes; their names are tried then.

    Args:
        sampler: of the run; its numbers of views may be drawn anew for each step, and grow with the steps.
        steps: length of the run.
        seed: of the draws.

    Raises:
        InputError: it makes no clip of any scene that can be imagined.
    """
    generator = np.random.default_rng(seed)
    names, shapes, refusal = _scene_names(sampler), set(), ""
    for step in np.linspace(0, max(0, steps - 1), _DRAWS).astype(int).tolist():
        of_step = sampler.for_step(step, generator)
        for name in names:
            try:
                choice = of_step.sample(name, NUM_FRAMES, generator, step)
            except UnusableSceneError as error:
                refusal = str(error)
                continue
            shapes.add(ClipShape(len(choice.frames), len(choice.context), len(choice.target)))
            break
    if not shapes:
        raise InputError(f"{type(sampler).__name__} chooses no views without the data: {refusal}")
    return sorted(shapes)


def _scene_names(sampler: ViewSampler) -> list[str]:
    tables = [table for table in vars(sampler).values() if isinstance(table, Mapping)]
    known = [name for table in tables for name in table if isinstance(name, str)]
    return ["any scene", *known[:_NAMES]]


def empty_views(shape: ClipShape, image_size: tuple[int, int], *, batch: int = 1) -> Views:
    """Clips of a shape without content, on the current default device; every position of the view axis is used.

    Args:
        shape: numbers of views.
        image_size: height and width.
        batch: number of clips.
    """
    context = torch.arange(shape.context).expand(batch, -1)
    target = torch.arange(shape.views - shape.target, shape.views).expand(batch, -1)
    pose = torch.eye(4).expand(batch, shape.views, 4, 4)
    return Views(
        images=torch.zeros(batch, shape.views, 3, *image_size),
        frames=torch.arange(shape.views).expand(batch, -1),
        context=context,
        target=target,
        scenes=("planned",) * batch,
        cameras=Cameras(pose, torch.full((batch, shape.views, 4), 0.5)),
    )
