"""Make the videos and camera files of one request."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from openrayzer.data.pixels.false_colours import as_picture, colour_range
from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.interfaces import InputError, Model, registered_name
from openrayzer.machine.writing import check_writable
from openrayzer.types import Cameras
from openrayzer.video.animation import AnimationWriter, check_output, open_video
from openrayzer.video.camera_files import check_exports, export_cameras, write_cameras
from openrayzer.video.mp4 import Mp4Writer, Quality
from openrayzer.video.named_paths import PathChoice, named_path
from openrayzer.video.placing import PlacedScene, render_frames, render_map_frames
from openrayzer.video.run_inputs import InputRequest, check_inputs, open_inputs
from openrayzer.video.side_by_side import SideBySide, nearest_views
from openrayzer.video.views import InputViews
from registry import did_you_mean

_SYMBOLS = re.compile(r"[^\w.-]")


@dataclass(frozen=True, kw_only=True)
class VideoRequest(InputRequest):
    """A video to make.

    Attributes:
        output: an .mp4, .webp or .gif file.
        path: the path of the camera.
        fps: frames per second.
        maps: names of maps of the model, such as depth; each gets its own video, see ``map_outputs``.
        side_by_side: a second file of one of these kinds that shows the inputs beside the new views.
        export: outputs for the cameras of the views; see ``export_cameras``.
        export_path: a .json file for the cameras of the frames.
        quality: quality of the videos.
    """

    output: str | Path
    path: PathChoice = field(default_factory=PathChoice)
    fps: float = 30.0
    maps: tuple[str, ...] = ()
    side_by_side: str | Path | None = None
    export: tuple[str | Path, ...] = ()
    export_path: str | Path | None = None
    quality: Quality = "high"

    @property
    def map_outputs(self) -> dict[str, Path]:
        """The file of each map: ``out.depth.mp4`` beside ``out.mp4``."""
        output = Path(self.output)
        return {name: output.with_name(f"{output.stem}.{_SYMBOLS.sub('_', name)}{output.suffix}") for name in self.maps}


@dataclass(frozen=True)
class MadeVideo:
    """Result of ``make_video``.

    Attributes:
        num_frames: number of frames.
        image_size: height and width of a frame.
        views: the context views.
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
    """Make the videos and camera files of a request.

    Everything that can be checked without the model is checked before the model is loaded.

    Args:
        request: the request.
        say: receives each note for the user, one sentence each.
        progress: wraps the iterator of frames, e.g. in a progress bar; the second argument is their number.

    Raises:
        InputError: the request cannot be fulfilled; no video is written then.
    """
    _check(request)
    opened = open_inputs(request, say=say)
    model, views, image_size = opened.model, opened.views, opened.image_size
    path = named_path(request.path, image_size=image_size)
    placed = opened.place()
    frames = path(placed.cameras)
    maps = _map_pictures(model, request, placed, frames)
    for file in request.export:
        export_cameras(file, placed.cameras.to("cpu"), names=views.names, images=views.images)
    if request.export_path is not None:
        write_cameras(request.export_path, frames.to("cpu"), image_size=image_size)
    rendered = progress(render_frames(model, placed.scene, frames, batch=request.batch), frames.num_views)
    _write(request, zip(rendered, maps, strict=True), views, placed.cameras, frames)
    return MadeVideo(frames.num_views, image_size, views)


def _check(request: VideoRequest) -> None:
    outputs = [
        request.output,
        *request.map_outputs.values(),
        request.side_by_side,
        *request.export,
        request.export_path,
    ]
    check_inputs(request, outputs, request.path.name)
    for video in (request.output, *request.map_outputs.values(), request.side_by_side):
        if video is not None:
            check_output(video, fps=request.fps)
    check_exports(request.export)
    if request.export_path is not None:
        if Path(request.export_path).suffix.lower() != ".json":
            raise InputError(f"--export_path {request.export_path}: the name must end in .json")
        check_writable(Path(request.export_path))
    if not 0.001 <= request.fps <= 1000:
        raise InputError(f"--fps must be from 0.001 to 1000, got {request.fps:g}")


def _map_pictures(
    model: Model, request: VideoRequest, placed: PlacedScene, frames: Cameras
) -> Iterator[dict[str, UInt8[Tensor, "h w 3"]]]:
    """Yield the pictures of the requested maps for each frame; the context views set the ranges of the colours."""
    if not request.maps:
        return repeat({}, frames.num_views)
    context = list(render_map_frames(model, placed.scene, placed.cameras, batch=request.batch))
    for name in request.maps:
        if name not in context[0]:
            known = f"the model {registered_name(model)!r} has no such map{did_you_mean(name, list(context[0]))}"
            raise InputError(f"--maps {name}: {known}")
    ranges = {name: colour_range(name, torch.stack([maps[name] for maps in context])) for name in request.maps}
    along = render_map_frames(model, placed.scene, frames, batch=request.batch)
    return ({name: as_picture(name, maps[name], ranges[name]) for name in request.maps} for maps in along)


def _write(
    request: VideoRequest,
    rendered: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    views: InputViews,
    cameras: Cameras,
    frames: Cameras,
) -> None:
    with ExitStack() as files:

        def opened(file: str | Path) -> Mp4Writer | AnimationWriter:
            writer = open_video(file, fps=request.fps, quality=request.quality)
            files.enter_context(writer)
            return writer

        video = opened(request.output)
        map_videos = {name: opened(file) for name, file in request.map_outputs.items()}
        beside = drawing = None
        if request.side_by_side is not None:
            nearest = nearest_views(frames, cameras).tolist()
            drawing = SideBySide(views.images, views.names, num_frames=frames.num_views)
            beside = opened(request.side_by_side)
        for number, (image, maps) in enumerate(rendered):
            video.add(to_bytes(image).numpy())
            for name, picture in maps.items():
                map_videos[name].add(picture.numpy())
            if beside is not None and drawing is not None:
                beside.add(drawing.frame(image, number=number, nearest=nearest[number]))
