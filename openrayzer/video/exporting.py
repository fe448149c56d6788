"""A scene in files that other programs open: Gaussians, coloured points, depth maps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import GaussianScene, InputError, registered_name
from openrayzer.interfaces.gaussians import TRANSPARENT
from openrayzer.machine.progress import stages_of
from openrayzer.machine.writing import check_writable, refuse_filled, whole_folder
from openrayzer.video.camera_files import check_export, export_cameras
from openrayzer.video.placing import PlacedScene
from openrayzer.video.points import (
    MadePoints,
    NoDepthError,
    PointsRequest,
    check_points_output,
    check_share,
    points_of_scene,
    write_points,
)
from openrayzer.video.run_inputs import RunInputs, check_inputs, open_inputs
from openrayzer.video.splat_files import (
    GAUSSIAN_FORMATS,
    gaussians_of_points,
    kept_gaussians,
    write_gaussians,
)
from openrayzer.video.views import InputViews

POINT_FORMATS = (".ply", ".glb")
MIN_OPACITY = TRANSPARENT
DEPTH_STEPS = 1000
"""Steps of a 16-bit depth map for each unit of length."""
DEEPEST = np.iinfo(np.uint16).max


@dataclass(frozen=True, kw_only=True)
class SceneRequest(PointsRequest):
    """A scene to write.

    Attributes:
        content: "gaussians", "points", or "auto": Gaussians if the scene has some and the format can hold them. For a
            model with depth and without Gaussians, each pixel becomes a round Gaussian.
        min_opacity: least opacity of a Gaussian, in [0, 1].
        cameras_output: file or folder for the cameras, see ``export_cameras``; in COLMAP's form with the points of a
            model that has depth. None: none.
        depth: folder for the depth maps of the views; None: none.
        depth_format: "npy" for float32, or "png" for 16 bits, ``DEPTH_STEPS`` for each unit of length.
    """

    content: Literal["auto", "gaussians", "points"] = "auto"
    min_opacity: float = MIN_OPACITY
    cameras_output: str | Path | None = None
    depth: str | Path | None = None
    depth_format: Literal["npy", "png"] = "npy"


@dataclass(frozen=True)
class WrittenScene:
    """Result of ``export_scene``.

    Attributes:
        summary: content of the file, e.g. "12000 Gaussians of 12288, with an opacity of 0.0039 or more".
        views: the context views.
    """

    summary: str
    views: InputViews


def export_scene(request: SceneRequest, *, say: Callable[[str], None]) -> WrittenScene:
    """Write the scene of a request.

    Args:
        request: the request.
        say: receives each note for the user, one sentence each.

    Raises:
        InputError: the request cannot be fulfilled; no file is written then.
    """
    check_inputs(request, [request.output, request.depth, request.cameras_output])
    _check_request(request)
    with stages_of("export", total=4) as begin:
        begin("loading the model and the views")
        opened = open_inputs(request, say=say)
        begin("estimating the cameras and the scene")
        placed = opened.place()
        explicit = _wants_gaussians(request, placed)
        own = explicit and isinstance(placed.scene, GaussianScene)
        begin("rendering depth")
        made = _points(request, opened, placed, explicit=explicit, own=own)
        begin(f"writing {Path(request.output).name}")
        summary = _write(request, opened.views, placed, made, explicit=explicit, own=own)
    return WrittenScene(summary, opened.views)


def _write(
    request: SceneRequest,
    views: InputViews,
    placed: PlacedScene,
    made: MadePoints | None,
    *,
    explicit: bool,
    own: bool,
) -> str:
    """Write all files of the request; returns a summary of the file of the scene."""
    if made is None or own:
        summary = _write_gaussians(request, placed)
    else:
        cloud = made.cloud
        if explicit:
            write_gaussians(request.output, gaussians_of_points(cloud.positions, cloud.colours, cloud.footprints))
        else:
            write_points(request.output, cloud, made.frustums)
        summary = made.summary("Gaussians" if explicit else "points")
    if made is not None and request.depth is not None:
        write_depth_maps(request.depth, made.depth, views.names, form=request.depth_format)
    if request.cameras_output is not None:
        points = None if made is None else (made.cloud.positions, made.cloud.colours)
        cameras = placed.cameras.to("cpu")
        export_cameras(request.cameras_output, cameras, names=views.names, images=views.images, points=points)
    return summary


def write_depth_maps(
    folder: str | Path, depth: Float[Tensor, "1 v h w"], names: tuple[str, ...], *, form: Literal["npy", "png"]
) -> None:
    """Write a depth map for each view into a new folder, under the name of the view.

    Args:
        folder: must not exist or be empty.
        depth: distance along the optical axis in units of the scene; other values than numbers above 0 become 0.
        names: names of the views.
        form: see ``SceneRequest``; 16 bits end at ``DEEPEST`` / ``DEPTH_STEPS`` units.

    Raises:
        InputError: the folder cannot be written.
    """
    known = depth.isfinite() & (depth > 0)
    maps = depth.where(known, 0.0)[0].numpy()
    with whole_folder(Path(folder), option="--depth") as unfinished:
        for number, (name, values) in enumerate(zip(names, maps, strict=True)):
            path = unfinished / f"{number:03d}_{Path(name).stem}.{form}"
            if form == "npy":
                np.save(path, values)
            elif not cv2.imwrite(str(path), (values * DEPTH_STEPS).round().clip(0, DEEPEST).astype(np.uint16)):
                raise InputError(f"--depth {folder}: the depth map of {name} cannot be written")


def _check_request(request: SceneRequest) -> None:
    suffix = Path(request.output).suffix.lower()
    formats = sorted({*POINT_FORMATS, *GAUSSIAN_FORMATS})
    allowed = {"auto": formats, "gaussians": [*GAUSSIAN_FORMATS], "points": [*POINT_FORMATS]}[request.content]
    if suffix not in allowed:
        what = "a scene" if request.content == "auto" else request.content
        raise InputError(f"--output {request.output}: a file of {what} must end in {' or '.join(allowed)}")
    check_share("min_confidence", request.min_confidence)
    check_share("min_opacity", request.min_opacity)
    if request.depth is not None:
        refuse_filled(Path(request.depth), option="--depth")
    if request.cameras_output is not None:
        check_export(request.cameras_output)
    if request.content == "points" or suffix not in GAUSSIAN_FORMATS:
        check_points_output(request.output, POINT_FORMATS)
    check_writable(Path(request.output))


def _wants_gaussians(request: SceneRequest, placed: PlacedScene) -> bool:
    """Whether the file holds Gaussians; if not, the check of a file of points has passed."""
    suffix = Path(request.output).suffix.lower()
    if request.content == "points" or suffix not in GAUSSIAN_FORMATS:
        return False
    if request.content == "gaussians" or suffix not in POINT_FORMATS or isinstance(placed.scene, GaussianScene):
        return True
    check_points_output(request.output, POINT_FORMATS)
    return False


def _points(
    request: SceneRequest, opened: RunInputs, placed: PlacedScene, *, explicit: bool, own: bool
) -> MadePoints | None:
    """The points of the scene; None if no file has them. They are an addition to cameras, where there is depth."""
    needed = not own or request.depth is not None
    if not needed and request.cameras_output is None:
        return None
    try:
        return points_of_scene(request, opened, placed)
    except NoDepthError as error:
        if not needed:
            return None
        if explicit and not own:
            raise InputError(
                f"the scenes of the model {registered_name(opened.model)!r} have neither Gaussians nor depth; "
                "take a run of 'erayzer' or 'rayzer_geometric'"
            ) from error
        raise


def _write_gaussians(request: SceneRequest, placed: PlacedScene) -> str:
    assert isinstance(placed.scene, GaussianScene)
    gaussians = placed.scene.gaussians
    kept = gaussians.opacities >= request.min_opacity
    if not kept.any():
        raise InputError(f"no Gaussian has an opacity of {request.min_opacity:g} or more; lower --min_opacity")
    write_gaussians(request.output, kept_gaussians(gaussians, kept))
    return f"{int(kept.sum())} Gaussians of {kept.numel()}, with an opacity of {request.min_opacity:.4g} or more"
