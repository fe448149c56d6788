"""Coloured points of a scene: the depth of each context view, unprojected with its camera, in a PLY file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.geometry.rays import unproject
from openrayzer.interfaces import InputError, Model, registered_name
from openrayzer.machine.writing import check_writable, unwritable, whole_file
from openrayzer.types import Cameras
from openrayzer.video.placing import PlacedScene, render_map_frames
from openrayzer.video.run_inputs import InputRequest, RunInputs
from openrayzer.video.views import InputViews

MIN_CONFIDENCE = 0.5
"""Least confidence of a point, for models with a map of it."""
FRUSTUM_DEPTH = 0.1
"""Length of a drawn frustum, in units of the median depth of the points."""
EDGE_POINTS = 40
"""Number of points along each of the 8 edges of a frustum."""
FRUSTUM_COLOUR = (255, 0, 0)


@dataclass(frozen=True, kw_only=True)
class PointsRequest(InputRequest):
    """A cloud of points to make.

    Attributes:
        output: the .ply file.
        min_confidence: least confidence of a point, in [0, 1]; None: ``MIN_CONFIDENCE`` for a model with a map of the
            confidence, otherwise all points.
        draw_cameras: whether to add a frustum of points for each camera.
    """

    output: str | Path
    min_confidence: float | None = None
    draw_cameras: bool = False


class NoDepthError(InputError):
    """The model has no map of depth."""


@dataclass(frozen=True)
class PointCloud:
    """Coloured points.

    Attributes:
        positions: in the world frame of their cameras.
        colours: RGB.
        footprints: width of a pixel at the depth of each point, in the unit of the positions; 0 for points of frustums.
    """

    positions: Float[Tensor, "n 3"]
    colours: UInt8[Tensor, "n 3"]
    footprints: Float[Tensor, " n"]

    @property
    def num_points(self) -> int:
        """Number of points."""
        return self.positions.shape[0]


@dataclass(frozen=True)
class MadePoints:
    """Points of a scene.

    Attributes:
        cloud: the points of the context views.
        frustums: points that draw the cameras; None if the request does not want them.
        depth: depth of the context views along their optical axes.
        num_pixels: number of pixels of the context views.
        min_confidence: least confidence of a point; None if the model has no map of it.
        views: the context views.
    """

    cloud: PointCloud
    frustums: PointCloud | None
    depth: Float[Tensor, "1 v h w"]
    num_pixels: int
    min_confidence: float | None
    views: InputViews

    def summary(self, kind: str = "points") -> str:
        """Number of points of how many pixels, e.g. "900 points of 1024 pixels"; ``kind`` names the points."""
        rule = "" if self.min_confidence is None else f", with a confidence of {self.min_confidence:g} or more"
        return f"{self.cloud.num_points} {kind} of {self.num_pixels} pixels{rule}"


def check_share(option: str, value: float | None) -> None:
    """Raise an ``InputError`` if the value of an option is neither None nor from 0 to 1."""
    if value is not None and not 0 <= value <= 1:
        raise InputError(f"--{option} must be from 0 to 1, got {value:g}")


def points_of_scene(request: PointsRequest, opened: RunInputs, placed: PlacedScene) -> MadePoints:
    """The points of a scene, by the depth of its context views.

    Args:
        request: the request, after its checks.
        opened: its model and views.
        placed: their scene.

    Raises:
        NoDepthError: the model has no depth.
        InputError: no pixel has enough confidence.
    """
    depth, confidence = depth_maps(opened.model, placed, batch=request.batch)
    least, kept = request.min_confidence, depth.isfinite() & (depth > 0)
    if confidence is not None:
        least = MIN_CONFIDENCE if least is None else least
        kept &= confidence >= least
    elif least is not None:
        raise InputError(
            f"the model {registered_name(opened.model)!r} has no map 'confidence'; leave out --min_confidence"
        )
    if not kept.any():
        raise InputError("no pixel has a depth of enough confidence; lower --min_confidence")
    cameras = placed.cameras.to("cpu")
    cloud = points_of(opened.views.images, depth, cameras, kept)
    drawn = frustums(cameras, depth=FRUSTUM_DEPTH * float(depth[kept].median())) if request.draw_cameras else None
    return MadePoints(cloud, drawn, depth, depth.numel(), least, opened.views)


def points_of(
    images: Float[Tensor, "1 v 3 h w"],
    depth: Float[Tensor, "1 v h w"],
    cameras: Cameras,
    kept: Bool[Tensor, "1 v h w"],
) -> PointCloud:
    """One point for each kept pixel, at its depth and with its colour.

    Args:
        images: views in [0, 1].
        depth: depth along the optical axis, in the unit of length of ``cameras``.
        cameras: cameras of the views.
        kept: True for the pixels that become points.
    """
    positions = rearrange(unproject(depth, cameras), "1 v xyz h w -> v h w xyz")
    colours = torch.stack([to_bytes(image) for image in images[0]])
    footprints = depth[0] / (cameras.intrinsics[0, :, 0, None, None] * depth.shape[-1])
    return PointCloud(positions[kept[0]].float(), colours[kept[0]], footprints[kept[0]].float())


def frustums(cameras: Cameras, *, depth: float) -> PointCloud:
    """Points along the edges of the pyramid from each camera, (1, v), to its image plane at ``depth``.

    Points show in every viewer, also in those that draw no edges beside a cloud of points.
    """
    corners = unproject(cameras.c2w.new_full((1, cameras.num_views, 2, 2), depth), _of_corners(cameras))
    corners = rearrange(corners, "1 v xyz y x -> v (y x) xyz")[:, [0, 1, 3, 2]]
    centre = cameras.c2w[0, :, None, :3, 3].to(corners).expand_as(corners)
    begin, end = torch.cat([centre, corners], dim=1), torch.cat([corners, corners.roll(-1, dims=1)], dim=1)
    along = torch.linspace(0, 1, EDGE_POINTS)[:, None]
    positions = rearrange(
        torch.lerp(begin[:, :, None], end[:, :, None], along), "v edge point xyz -> (v edge point) xyz"
    )
    colours = torch.tensor(FRUSTUM_COLOUR, dtype=torch.uint8).expand(len(positions), 3)
    return PointCloud(positions.float(), colours, torch.zeros(len(positions)))


def check_points_output(path: str | Path, formats: Sequence[str] = (".ply",)) -> None:
    """Check that ``write_points`` can write to ``path``.

    Args:
        path: the file.
        formats: allowed suffixes of its name.

    Raises:
        InputError: the name has another suffix, trimesh is not installed, or the file cannot be written.
    """
    if Path(path).suffix.lower() not in formats:
        raise InputError(f"--output {path}: the name of a file of points must end in {' or '.join(formats)}")
    _trimesh()
    check_writable(Path(path))


def write_points(path: str | Path, *clouds: PointCloud | None) -> None:
    """Write points in the format that the suffix of the name says: a binary PLY file, or .glb (binary glTF).

    The axes of glTF are x right, y up and z backward, so that y and z change their signs in a .glb file.

    Raises:
        InputError: trimesh is not installed, or the file cannot be written.
    """
    positions, colours = (
        torch.cat([getattr(cloud, name) for cloud in clouds if cloud is not None]).numpy()
        for name in ("positions", "colours")
    )
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form == "glb":
        positions = positions * np.array([1, -1, -1], positions.dtype)
    content: bytes = _trimesh().PointCloud(positions, colors=colours).export(file_type=form)
    try:
        with whole_file(path, flush=False) as file:
            file.write_bytes(content)
    except OSError as error:
        raise unwritable(path, error) from error


def depth_maps(
    model: Model, placed: PlacedScene, *, batch: int
) -> tuple[Float[Tensor, "1 v h w"], Float[Tensor, "1 v h w"] | None]:
    """Depth of the context views, and its confidence if the model has a map of it.

    Raises:
        NoDepthError: the model has no map of depth.
    """
    frames = render_map_frames(model, placed.scene, placed.cameras, batch=batch)
    first = next(frames)
    if "depth" not in first:
        known = ", ".join(first) or "(none)"
        raise NoDepthError(
            f"the model {registered_name(model)!r} has no map 'depth', so its scenes have no points; its maps: {known}"
        )
    maps = [first, *frames]
    depth = torch.cat([of_view["depth"] for of_view in maps])[None]
    if "confidence" not in maps[0]:
        return depth, None
    return depth, torch.cat([of_view["confidence"] for of_view in maps])[None]


def _of_corners(cameras: Cameras) -> Cameras:
    """Cameras whose images of 2 x 2 pixels have their pixel centres at the corners of the given cameras' images."""
    fx, fy, cx, cy = cameras.intrinsics.unbind(-1)
    return Cameras(cameras.c2w, torch.stack([fx / 2, fy / 2, cx / 2 + 0.25, cy / 2 + 0.25], dim=-1))


def _trimesh() -> Any:
    try:
        import trimesh
    except ImportError as error:
        raise InputError("files of points need trimesh: pip install 'openrayzer[points]'") from error
    return trimesh
