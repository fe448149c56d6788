"""A scene from images, once, and any number of frames of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import InputError, Model, UnposedInputError
from openrayzer.machine import FittingBatches, ran_out_of_memory
from openrayzer.types import Cameras, Scene

CameraPath = Callable[[Cameras], Cameras]
"""From the cameras of the views to those of the frames."""


@dataclass(frozen=True)
class PlacedScene:
    """What one estimate and one reconstruction gave.

    Attributes:
        cameras: of the views, in the frame in which the scene is rendered.
        scene: what the model remembers.
    """

    cameras: Cameras
    scene: Scene


def render_path(
    model: Model,
    images: Float[Tensor, "1 v 3 h w"],
    path: CameraPath,
    *,
    known: Cameras | None = None,
    scene_scale: float | None = 1.35,
    batch: int = 8,
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Frames of a video, one after the other, on the CPU.

    Costs one estimate, one reconstruction, and one pass of the renderer for every ``batch`` frames; see
    ``render_frames``.

    Args:
        model: in evaluation mode; computes where its weights are.
        images: the views, in [0, 1].
        path: where the frames are seen from, e.g. ``lambda views: orbit_path(views, 120)``.
        known: see ``place``.
        scene_scale: see ``place``.
        batch: most frames that are rendered together.

    Raises:
        UnposedInputError: the model needs cameras that are not given.
        InputError: there is not enough memory, or the cameras are not finite.
    """
    placed = place(model, images, known=known, scene_scale=scene_scale)
    return render_frames(model, placed.scene, path(placed.cameras), batch=batch)


def place(
    model: Model,
    images: Float[Tensor, "1 v 3 h w"],
    *,
    known: Cameras | None = None,
    scene_scale: float | None = 1.35,
) -> PlacedScene:
    """Cameras of the views and the scene that they show.

    Args:
        model: in evaluation mode; computes where its weights are.
        images: the views, in [0, 1].
        known: true cameras, (1, v), for a model that needs poses or intrinsics; another takes none of them.
        scene_scale: of a posed model; see ``normalise_poses``. None takes poses as they are.

    Raises:
        UnposedInputError: the model needs cameras that are not given.
        InputError: there is not enough memory, or the cameras are not finite.
    """
    device = next(model.parameters()).device
    images, known = images.to(device), None if known is None else known.to(device)
    few = f"{images.shape[1]} views of {images.shape[4]} x {images.shape[3]} pixels: take fewer or smaller ones"
    with torch.inference_mode(), _memory(few):
        cameras = _cameras(model, images, known, scene_scale)
        if not (cameras.c2w.isfinite().all() and cameras.intrinsics.isfinite().all()):
            raise InputError("the cameras are not finite numbers: did the training of these weights diverge?")
        return PlacedScene(cameras, model.prepare(model.reconstruct(images, cameras)))


def _cameras(model: Model, images: Tensor, known: Cameras | None, scene_scale: float | None) -> Cameras:
    if not (model.posed or model.needs_intrinsics):
        return model.estimate(images)
    if known is None:
        what = "camera poses" if model.posed else "intrinsics"
        raise UnposedInputError(f"{type(model).__name__} needs {what}, and none are given")
    if model.needs_intrinsics and not model.posed:
        return model.estimate(images, known.intrinsics)
    return (
        known if scene_scale is None else Cameras(normalise_poses(known.c2w, scene_scale=scene_scale), known.intrinsics)
    )


def render_frames(model: Model, scene: Scene, path: Cameras, *, batch: int = 8) -> Iterator[Float[Tensor, "3 h w"]]:
    """The scene as each camera of ``path``, (1, f), sees it, on the CPU; ``batch`` at once, or fewer that fit.

    Raises:
        InputError: there is not enough memory for a single frame.
    """
    batches = FittingBatches(batch, device=scene.device)
    path = path.to(scene.device)

    def render(some: slice) -> Float[Tensor, "f 3 h w"]:
        with torch.inference_mode():
            images = model.render(scene, Cameras(path.c2w[:, some], path.intrinsics[:, some]))
            return images[0].float().cpu()

    height, width = scene.image_size
    smaller = f"at {width} x {height} pixels: take smaller images, or a scene of fewer views"
    for frames in batches.each(path.num_views, render, advice=smaller):
        yield from frames


@contextmanager
def _memory(advice: str) -> Iterator[None]:
    """Says what to do where memory runs out."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        raise InputError(f"not enough memory for {advice}") from error
