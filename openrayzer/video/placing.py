"""Place images in a scene once, and render frames of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.poses import normalise_poses
from openrayzer.interfaces import InputError, Model, UnposedInputError
from openrayzer.machine import FittingBatches, ran_out_of_memory
from openrayzer.types import Cameras, Scene

T = TypeVar("T")
CameraPath = Callable[[Cameras], Cameras]
"""Maps the cameras of the views to the cameras of the frames."""


@dataclass(frozen=True)
class PlacedScene:
    """A reconstructed scene and the cameras of its views.

    Attributes:
        cameras: cameras of the views, in the world frame of the scene.
        scene: the scene that the model reconstructed.
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
    """Yield the frames of a video one by one, on the CPU.

    The model runs one estimate, one reconstruction, and one pass of the renderer for every ``batch`` frames; see
    ``render_frames``.

    Args:
        model: in evaluation mode, on any device.
        images: the views, in [0, 1].
        path: maps the cameras of the views to those of the frames, e.g. ``lambda views: orbit_path(views, 120)``.
        known: see ``place``.
        scene_scale: see ``place``.
        batch: largest number of frames that are rendered together.

    Raises:
        UnposedInputError: the model needs cameras, but ``known`` is None.
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
    """Find the cameras of the views and reconstruct their scene.

    Args:
        model: in evaluation mode, on any device.
        images: the views, in [0, 1].
        known: true cameras, (1, v), for a model that needs poses or intrinsics; other models ignore them.
        scene_scale: scale for true poses, see ``normalise_poses``; None does not normalise them.

    Raises:
        UnposedInputError: the model needs cameras, but ``known`` is None.
        InputError: there is not enough memory, or the cameras are not finite.
    """
    device = next(model.parameters()).device
    images, known = images.to(device), None if known is None else known.to(device)
    job = f"{images.shape[1]} views of {images.shape[4]} x {images.shape[3]} pixels; use fewer or smaller views"
    with torch.inference_mode(), _enough_memory(job):
        cameras = _cameras(model, images, known, scene_scale)
        if not (cameras.c2w.isfinite().all() and cameras.intrinsics.isfinite().all()):
            raise InputError("the cameras are not finite numbers; the training of these weights may have diverged")
        return PlacedScene(cameras, model.prepare(model.reconstruct(images, cameras)))


def _cameras(model: Model, images: Tensor, known: Cameras | None, scene_scale: float | None) -> Cameras:
    if not (model.posed or model.needs_intrinsics):
        return model.estimate(images)
    if known is None:
        needs = "camera poses" if model.posed else "intrinsics"
        raise UnposedInputError(f"{type(model).__name__} needs {needs}, but none are given")
    if model.needs_intrinsics and not model.posed:
        return model.estimate(images, known.intrinsics)
    return (
        known if scene_scale is None else Cameras(normalise_poses(known.c2w, scene_scale=scene_scale), known.intrinsics)
    )


def render_frames(model: Model, scene: Scene, path: Cameras, *, batch: int = 8) -> Iterator[Float[Tensor, "3 h w"]]:
    """Yield the view of the scene from each camera of ``path``, (1, f), on the CPU.

    Args:
        model: in evaluation mode.
        scene: a scene that ``model`` reconstructed.
        path: the cameras.
        batch: largest number of frames that are rendered together; fewer if memory does not suffice.

    Raises:
        InputError: there is not enough memory for a single frame.
    """
    return _frames(lambda cameras: list(model.render(scene, cameras)[0].float().cpu()), scene, path, batch)


def render_map_frames(
    model: Model, scene: Scene, path: Cameras, *, batch: int = 8
) -> Iterator[dict[str, Float[Tensor, "_ h w"]]]:
    """Yield the maps of the scene by name, such as depth, from each camera of ``path``, (1, f), on the CPU.

    See ``render_frames`` for the arguments and errors, and ``Model.render_maps`` for the maps.
    """

    def render(cameras: Cameras) -> list[dict[str, Tensor]]:
        maps = {name: values[0].float().cpu() for name, values in model.render_maps(scene, cameras).items()}
        return [{name: values[frame] for name, values in maps.items()} for frame in range(cameras.num_views)]

    return _frames(render, scene, path, batch)


def _frames(render: Callable[[Cameras], list[T]], scene: Scene, path: Cameras, batch: int) -> Iterator[T]:
    batches = FittingBatches(batch, device=scene.device)
    path = path.to(scene.device)

    def rendered(frames: slice) -> list[T]:
        with torch.inference_mode():
            return render(Cameras(path.c2w[:, frames], path.intrinsics[:, frames]))

    height, width = scene.image_size
    advice = f"frames have {width} x {height} pixels; use smaller images, or a scene of fewer views"
    for frames in batches.each(path.num_views, rendered, advice=advice):
        yield from frames


@contextmanager
def _enough_memory(job: str) -> Iterator[None]:
    """Turn an out-of-memory error into an InputError that names the job."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        raise InputError(f"not enough memory for {job}") from error
