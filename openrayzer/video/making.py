"""A video from a run and images: everything between a command line and the files it asks for."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.interfaces import InputError, Model, concerning, registered_name
from openrayzer.machine.writing import check_writable
from openrayzer.types import Cameras
from openrayzer.video.camera_files import check_exports, export_cameras, write_cameras
from openrayzer.video.mp4 import Mp4Writer, Quality, check_output
from openrayzer.video.named_paths import PathChoice, named_path
from openrayzer.video.placing import place, render_frames
from openrayzer.video.side_by_side import SideBySide, nearest_views
from openrayzer.video.views import InputViews, read_views
from openrayzer.weights.finding import LATEST
from openrayzer.weights.loading import open_model

MOST_VIEWS = 16
"""Views that are used where neither the user nor the run says how many."""


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """What a user asks for.

    Attributes:
        run: see ``load_model``.
        images: a folder of images or a video.
        output: the .mp4 file.
        checkpoint: see ``load_model``.
        path: where the frames are seen from.
        fps: frames per second.
        num_views: views that the model is given, evenly chosen; None: as many as the run was trained with.
        window: first and last frame that may be chosen.
        image_size: height and width; None: those of the run.
        cameras: true cameras, for models that need some; see ``read_views``.
        side_by_side: a second .mp4 file, that shows inputs beside new views.
        export: where the cameras of the views go; see ``export_cameras``.
        export_path: a .json file for the cameras of the frames.
        batch: most frames that are rendered together; fewer where memory does not suffice.
        quality: of the videos.
        device: where the model computes.
    """

    run: str
    images: Path
    output: Path
    checkpoint: str = LATEST
    path: PathChoice = field(default_factory=PathChoice)
    fps: float = 30.0
    num_views: int | None = None
    window: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    cameras: Path | None = None
    side_by_side: Path | None = None
    export: tuple[Path, ...] = ()
    export_path: Path | None = None
    batch: int = 8
    quality: Quality = "high"
    device: str = "cpu"


@dataclass(frozen=True)
class MadeVideo:
    """What was made.

    Attributes:
        num_frames: of the video.
        image_size: height and width of a frame.
        views: what the model was given.
    """

    num_frames: int
    image_size: tuple[int, int]
    views: InputViews


def make_video(
    request: VideoRequest,
    *,
    say: Callable[[str], None],
    progress: Callable[[Iterator[Tensor], int], Iterable[Tensor]] = lambda frames, total: frames,
) -> MadeVideo:
    """Make the videos and camera files of a request. What is wrong with it is told before the model is loaded.

    Args:
        request: what is wanted.
        say: gets notes, one sentence each.
        progress: wraps the frames, whose number it is told.

    Raises:
        InputError: something given cannot work; no video is left then.
    """
    _check(request)
    saved = open_model(request.run, checkpoint=request.checkpoint)
    data = saved.plan.resolved["data"]
    trained = (int(data["image_size"][0]), int(data["image_size"][1]))
    image_size = request.image_size or trained
    path = named_path(request.path, image_size=image_size)
    views = read_views(
        request.images,
        image_size=image_size,
        num_views=request.num_views,
        most=_trained_views(data),
        window=request.window,
        cameras=request.cameras,
    )
    for note in views.notes:
        say(note)
    model = saved.model.to(request.device)
    _check_model(model, request, image_size)
    if image_size != trained:
        say(f"the run was trained with {trained[1]} x {trained[0]} pixels, not {image_size[1]} x {image_size[0]}")
    scale = float(data["scene_scale"]) if data["normalise_poses"] else None
    placed = place(model, views.images, known=views.known, scene_scale=scale)
    frames = path(placed.cameras)
    for file in request.export:
        export_cameras(file, placed.cameras.to("cpu"), names=views.names, images=views.images)
    if request.export_path is not None:
        write_cameras(request.export_path, frames.to("cpu"), image_size=image_size)
    rendered = render_frames(model, placed.scene, frames, batch=request.batch)
    _write(request, iter(progress(rendered, frames.num_views)), views, placed.cameras, frames)
    return MadeVideo(frames.num_views, image_size, views)


def _check(request: VideoRequest) -> None:
    outputs = [request.output, request.side_by_side, *request.export, request.export_path]
    named = [file.resolve() for file in outputs if file is not None]
    if len(set(named)) < len(named):
        raise InputError("two outputs have the same name")
    for given in (request.images, request.cameras, Path(request.path.name)):
        if given is not None and given.is_file() and given.resolve() in named:
            raise InputError(f"{given} is given, and would be overwritten; choose another name for the output")
    check_output(request.output)
    if request.side_by_side is not None:
        check_output(request.side_by_side)
    check_exports(request.export)
    if request.export_path is not None:
        if request.export_path.suffix.lower() != ".json":
            raise InputError(f"--export_path {request.export_path}: give a name that ends in .json")
        check_writable(request.export_path)
    try:
        torch.empty(1, device=request.device)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        raise InputError(f"--device {request.device}: {str(error).partition(chr(10))[0]}") from error
    if request.batch < 1:
        raise InputError(f"--batch must be 1 or more, got {request.batch}")
    if not 0.001 <= request.fps <= 1000:
        raise InputError(f"--fps must be from 0.001 to 1000, got {request.fps:g}")
    if request.image_size is not None and min(request.image_size) < 1:
        raise InputError(f"--image_size must be height and width in pixels, got {request.image_size}")


def _check_model(model: Model, request: VideoRequest, image_size: tuple[int, int]) -> None:
    name = registered_name(model)
    with concerning("--image_size"):
        model.check_size(image_size)
    needs = "camera poses" if model.posed else "intrinsics" if model.needs_intrinsics else ""
    if needs and request.cameras is None:
        raise InputError(
            f"the model {name!r} needs {needs}: give --cameras, a JSON file of ours, a transforms.json, or a folder "
            "with a COLMAP model"
        )
    if request.cameras is not None and not needs:
        raise InputError(f"the model {name!r} estimates cameras itself; leave out --cameras")


def _trained_views(data: dict[str, Any]) -> int:
    """The most views that a run was given in training, as far as its view sampler says."""
    sampler = data["view_sampler"]
    stated = sampler.get("num_context", sampler.get("num_views"))
    counts = [count for count in (stated if isinstance(stated, (list, tuple)) else [stated]) if isinstance(count, int)]
    return max(counts, default=MOST_VIEWS)


def _write(
    request: VideoRequest, rendered: Iterator[Tensor], views: InputViews, cameras: Cameras, frames: Cameras
) -> None:
    with ExitStack() as files:
        video = files.enter_context(Mp4Writer(request.output, fps=request.fps, quality=request.quality))
        beside = drawing = None
        if request.side_by_side is not None:
            nearest = nearest_views(frames, cameras).tolist()
            drawing = SideBySide(views.images, views.names, num_frames=frames.num_views)
            beside = files.enter_context(Mp4Writer(request.side_by_side, fps=request.fps, quality=request.quality))
        for number, image in enumerate(rendered):
            video.add(to_bytes(image).numpy())
            if beside is not None and drawing is not None:
                beside.add(drawing.frame(image, number=number, nearest=nearest[number]))


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
