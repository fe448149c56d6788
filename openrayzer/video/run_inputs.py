"""The model of a run and the views that it gets: what every tool for scenes of a user needs first."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openrayzer.interfaces import InputError, Model, concerning, registered_name
from openrayzer.video.placing import PlacedScene, place
from openrayzer.video.views import InputViews, read_scene_views, read_views
from openrayzer.weights.finding import LATEST
from openrayzer.weights.loading import open_model

MOST_VIEWS = 16
"""Largest number of views if neither the user nor the run sets one."""


@dataclass(frozen=True, kw_only=True)
class InputRequest:
    """A run and the views for its model; either ``images`` or ``data`` is given.

    Attributes:
        run: see ``load_model``.
        images: a folder of images or a video.
        data: a folder of chunks, of which the held-out scene ``scene`` gives the views and, if the model needs them,
            the cameras.
        scene: name of the scene; None takes the first.
        checkpoint: see ``load_model``.
        num_views: number of context views, evenly chosen from the images; None: as many as in training.
        window: first and last frame of the images to choose from; None: all.
        image_size: height and width in pixels; None: those of the run.
        cameras: true cameras for models that need them; see ``read_views``.
        batch: largest number of views that are rendered together; fewer if memory does not suffice.
        device: device that computes.
    """

    run: str | Path
    images: str | Path | None = None
    data: str | Path | None = None
    scene: str | None = None
    checkpoint: str = LATEST
    num_views: int | None = None
    window: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    cameras: str | Path | None = None
    batch: int = 8
    device: str = "cpu"


@dataclass(frozen=True)
class RunInputs:
    """A model and its views.

    Attributes:
        model: in evaluation mode, on the device of the request.
        views: the context views.
        image_size: their height and width.
        scene_scale: scale of true poses in training, see ``place``.
    """

    model: Model
    views: InputViews
    image_size: tuple[int, int]
    scene_scale: float | None

    def place(self) -> PlacedScene:
        """The cameras of the views and their scene; see ``place``."""
        return place(self.model, self.views.images, known=self.views.known, scene_scale=self.scene_scale)


def check_inputs(request: InputRequest, outputs: Iterable[str | Path | None], *also: str | Path | None) -> None:
    """Check all that can be checked without the model.

    Args:
        request: the request.
        outputs: files and folders to write; None for an output that is not wanted.
        also: further inputs.

    Raises:
        InputError: a value is wrong, two outputs have the same name, or an output would replace an input.
    """
    named = [Path(file).resolve() for file in outputs if file is not None]
    if len(set(named)) < len(named):
        raise InputError("two outputs have the same name")
    for given in (request.images, request.cameras, *also):
        if given is not None and Path(given).is_file() and Path(given).resolve() in named:
            raise InputError(f"{given} is an input and would be overwritten; choose another name for the output")
    if (request.images is None) == (request.data is None):
        raise InputError("give either --images or --data")
    if request.data is None and request.scene is not None:
        raise InputError("--scene names a scene of --data; leave it out with --images")
    if request.data is not None and request.cameras is not None:
        raise InputError("the scenes of --data have cameras; leave out --cameras")
    check_device(request.device)
    if request.batch < 1:
        raise InputError(f"--batch must be 1 or more, got {request.batch}")
    if request.image_size is not None and min(request.image_size) < 1:
        raise InputError(f"--image_size must be height and width in pixels, got {request.image_size}")


def open_inputs(request: InputRequest, *, say: Callable[[str], None]) -> RunInputs:
    """Load the model and read its views.

    Args:
        request: the request, after ``check_inputs``.
        say: receives each note for the user, one sentence each.

    Raises:
        InputError: there is no such run, the views cannot be read, or they do not suit the model.
    """
    saved = open_model(request.run, checkpoint=request.checkpoint)
    data = saved.plan.resolved["data"]
    trained = (int(data["image_size"][0]), int(data["image_size"][1]))
    image_size = request.image_size or trained
    model = saved.model.to(request.device)
    views = _read(request, image_size, most=trained_views(data), posed=model.posed or model.needs_intrinsics)
    for note in views.notes:
        say(note)
    _check_model(model, request, image_size)
    if image_size != trained:
        say(f"the run was trained with {trained[1]} x {trained[0]} pixels, not {image_size[1]} x {image_size[0]}")
    scale = float(data["scene_scale"]) if data["normalise_poses"] else None
    return RunInputs(model, views, image_size, scale)


def default_device() -> str:
    """Return "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Check that tensors can be on a device.

    Raises:
        InputError: there is no such device.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        raise InputError(f"--device {device}: {str(error).partition(chr(10))[0]}") from error


def _read(request: InputRequest, image_size: tuple[int, int], *, most: int, posed: bool) -> InputViews:
    if request.data is not None:
        return read_scene_views(
            request.data,
            scene=request.scene,
            posed=posed,
            image_size=image_size,
            num_views=request.num_views,
            most=most,
            window=request.window,
        )
    assert request.images is not None
    return read_views(
        request.images,
        image_size=image_size,
        num_views=request.num_views,
        most=most,
        window=request.window,
        cameras=request.cameras,
    )


def _check_model(model: Model, request: InputRequest, image_size: tuple[int, int]) -> None:
    name = registered_name(model)
    with concerning("--image_size"):
        model.check_size(image_size)
    needs = "camera poses" if model.posed else "intrinsics" if model.needs_intrinsics else ""
    if needs and request.cameras is None and request.data is None:
        raise InputError(
            f"the model {name!r} needs {needs}: give --cameras with a file from --export_cameras, a transforms.json, "
            "or a folder with a COLMAP model; or take a scene of --data"
        )
    if request.cameras is not None and not needs:
        raise InputError(f"the model {name!r} estimates cameras itself; leave out --cameras")


def trained_views(data: dict[str, Any]) -> int:
    """Return the largest number of context views in training, if the view sampler states one."""
    sampler = data["view_sampler"]
    stated = sampler.get("num_context", sampler.get("num_views"))
    counts = [count for count in (stated if isinstance(stated, (list, tuple)) else [stated]) if isinstance(count, int)]
    return max(counts, default=MOST_VIEWS)
