"""Shapes of the clips that a view sampler chooses, found without any data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from openrayzer.interfaces import InputError, UnusableSceneError, ViewChoice, ViewSampler
from openrayzer.types import Cameras, Views

NUM_FRAMES = 10_000
"""Number of frames of a fictitious scene, more than the window of any sampler needs."""
_DRAWS = 64
_NAMES = 200


@dataclass(frozen=True, order=True)
class ClipShape:
    """Numbers of views of one clip. ``views`` counts a view once even if it is both context and target."""

    views: int
    context: int
    target: int


def clip_shapes(sampler: ViewSampler, *, steps: int, seed: int = 0) -> list[ClipShape]:
    """The different shapes of a run's clips, smallest first; see ``example_choices``.

    Raises:
        InputError: the sampler refuses every scene.
    """
    choices = example_choices(sampler, steps=steps, seed=seed)
    return sorted({ClipShape(len(choice.frames), len(choice.context), len(choice.target)) for choice in choices})


def example_choices(sampler: ViewSampler, *, steps: int, seed: int = 0) -> Iterator[ViewChoice]:
    """Choices of views from all parts of a run.

    The sampler chooses views of a fictitious scene. A sampler with tables of scenes refuses an unknown name. The
    function then tries the names in its tables.

    Args:
        sampler: view sampler of the run. Its numbers of views may be random and may change with the steps.
        steps: length of the run.
        seed: seed of the random choices.

    Raises:
        InputError: the sampler refuses every scene.
    """
    generator = np.random.default_rng(seed)
    names, chosen, refusal = _scene_names(sampler), False, ""
    for step in np.linspace(0, max(0, steps - 1), _DRAWS).astype(int).tolist():
        of_step = sampler.for_step(step, generator)
        for name in names:
            try:
                yield of_step.sample(name, NUM_FRAMES, generator, step)
            except UnusableSceneError as error:
                refusal = str(error)
                continue
            chosen = True
            break
    if not chosen:
        raise InputError(f"{type(sampler).__name__} chooses no views without the data: {refusal}")


def _scene_names(sampler: ViewSampler) -> list[str]:
    tables = [table for table in vars(sampler).values() if isinstance(table, Mapping)]
    known = [name for table in tables for name in table if isinstance(name, str)]
    return ["any scene", *known[:_NAMES]]


def empty_views(shape: ClipShape, image_size: tuple[int, int], *, batch: int = 1) -> Views:
    """Black clips of a shape on the default device; each position of the view axis is a context or a target view.

    Args:
        shape: numbers of views.
        image_size: height and width in pixels.
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
