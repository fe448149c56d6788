"""A scene that a visitor looks at: its cameras, camera paths and pictures."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from openrayzer.data.pixels.false_colours import as_picture, colour_range
from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.geometry.focus import extent_of, mean_up, pivot_of
from openrayzer.geometry.rotations import pose_from, so3_exp
from openrayzer.interfaces import GaussianScene
from openrayzer.types import Cameras
from openrayzer.video.named_paths import NAMES, PathChoice, named_path
from openrayzer.video.placing import PlacedScene, render_frames, render_map_frames
from openrayzer.video.points import MIN_CONFIDENCE, PointCloud, points_of
from openrayzer.video.views import InputViews
from openrayzer.web.answers import Picture, Refused
from openrayzer.web.loaded_models import LoadedModel

STEPS = 120
"""Approximate number of steps of the slider."""
MOST_TURN = 30.0
"""Largest angle in degrees by which a visitor turns the camera away from a path."""
LOSSLESS = 128
"""Pictures up to this many pixels high are PNG files, larger ones JPEG."""
DRAWN_POINTS = 4000
"""Number of points in the drawing of the cameras."""
COLOUR = "colour"


@dataclass
class KeptScene:
    """A reconstructed scene.

    Attributes:
        loaded: the model.
        views: the photos that the model saw.
        placed: their cameras and the scene.
        folder: folder for the files that the visitor downloads.
        notes: remarks for the visitor.
        seconds: time that the cameras and the scene took.
        used: time of the last use, see ``time.monotonic``.
    """

    loaded: LoadedModel
    views: InputViews
    placed: PlacedScene
    folder: Path
    notes: tuple[str, ...]
    seconds: float
    used: float = field(default=0.0)

    @cached_property
    def cameras(self) -> Cameras:
        """The estimated cameras, on the CPU."""
        return self.placed.cameras.to("cpu")

    @cached_property
    def maps(self) -> dict[str, Float[Tensor, "v c h w"]]:
        """The maps of the photos' own cameras by name, such as depth; empty for a model without maps."""
        rendered = list(render_map_frames(self.loaded.model, self.placed.scene, self.cameras))
        return {name: torch.stack([maps[name] for maps in rendered]) for name in rendered[0]}

    @property
    def is_explicit(self) -> bool:
        """Whether the scene consists of Gaussians."""
        return isinstance(self.placed.scene, GaussianScene)

    @cached_property
    def points(self) -> PointCloud | None:
        """The points of all pixels of the photos with a depth of enough confidence; None without depth."""
        if "depth" not in self.maps:
            return None
        depth = self.maps["depth"][None, :, 0]
        kept = depth.isfinite() & (depth > 0)
        if "confidence" in self.maps:
            kept &= self.maps["confidence"][None, :, 0] >= MIN_CONFIDENCE
        return points_of(self.views.images, depth, self.cameras, kept)

    @cached_property
    def paths(self) -> dict[str, Cameras]:
        """The steps of the slider on each camera path. Every photo is a step of the first path."""
        gaps = max(1, self.cameras.num_views - 1)
        steps = {NAMES[0]: gaps * max(1, round(STEPS / gaps)) + 1}
        size = self.loaded.image_size
        return {
            name: named_path(PathChoice(name, num_frames=steps.get(name, STEPS)), image_size=size)(self.cameras)
            for name in NAMES
        }

    def camera(self, path: str, step: int, *, turn: float = 0.0, lift: float = 0.0) -> Cameras:
        """The camera of a step, turned about the point that the photos look at.

        Args:
            path: name of the path.
            step: number of the step, from 0; numbers beyond the ends give the ends.
            turn: angle in degrees by which the camera goes around the point, to the right.
            lift: angle in degrees by which it goes up.
        """
        if path not in self.paths:
            raise Refused("There is no such camera path.")
        cameras = self.paths[path]
        step = min(max(step, 0), cameras.num_views - 1)
        c2w = cameras.c2w[0, step].double()
        if turn or lift:
            c2w = _turned(c2w, self._distance, turn=turn, lift=lift)
        return Cameras(c2w.float()[None, None], cameras.intrinsics[:, step : step + 1])

    @cached_property
    def _distance(self) -> float:
        """Mean distance of the cameras to the point that they look at."""
        centres = self.cameras.c2w[0, :, :3, 3]
        return float((pivot_of(self.cameras.c2w)[0] - centres).norm(dim=-1).mean())

    def picture(self, camera: Cameras, shown: str = COLOUR) -> Picture:
        """The view of a camera.

        Args:
            camera: (1, 1).
            shown: "colour", or the name of a map.
        """
        start = perf_counter()
        if shown == COLOUR:
            image = to_bytes(next(render_frames(self.loaded.model, self.placed.scene, camera)))
        elif shown in self.maps:
            maps = next(render_map_frames(self.loaded.model, self.placed.scene, camera))
            image = as_picture(shown, maps[shown], self.ranges[shown])
        else:
            raise Refused(f"This model has no map {shown!r}.")
        content, media_type = encoded(image)
        pose = tuple(camera.c2w[0, 0, :3].flatten().tolist())
        return Picture(content, media_type, 1000 * (perf_counter() - start), pose)

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The values at the ends of the colour scale of each map, equal for all views."""
        return {name: colour_range(name, maps) for name, maps in self.maps.items()}

    def photo(self, number: int) -> Picture:
        """A photo as the model saw it."""
        if not 0 <= number < self.cameras.num_views:
            raise Refused("There is no such photo.")
        content, media_type = encoded(to_bytes(self.views.images[0, number]))
        return Picture(content, media_type, 0.0, ())

    def drawing(self) -> dict[str, Any]:
        """The data for the drawing of the cameras, plain JSON: poses as 12 numbers, row by row."""
        extent = float(extent_of(self.cameras.c2w)[0])
        return {
            "size": list(self.loaded.image_size),
            "names": list(self.views.names),
            "cameras": _rows(self.cameras),
            "intrinsics": self.cameras.intrinsics[0].tolist(),
            "paths": {name: _rows(path) for name, path in self.paths.items()},
            "up": mean_up(self.cameras.c2w)[0].tolist(),
            "pivot": pivot_of(self.cameras.c2w)[0].tolist(),
            "extent": extent if extent > 0 else 1.0,
            "distance": self._distance,
            "points": self._drawn_points(),
            "maps": [COLOUR, *self.maps],
        }

    def _drawn_points(self) -> list[list[float | int]]:
        """Rows of x, y, z, red, green, blue; empty without depth."""
        cloud = self.points
        if cloud is None or not cloud.num_points:
            return []
        chosen = torch.linspace(0, cloud.num_points - 1, min(DRAWN_POINTS, cloud.num_points)).long()
        places = cloud.positions[chosen].tolist()
        colours = cloud.colours[chosen].tolist()
        return [[round(value, 4) for value in place] + colour for place, colour in zip(places, colours, strict=True)]


def _rows(cameras: Cameras) -> list[list[float]]:
    """The first three rows of each pose, row by row."""
    return [[float(f"{value:.6g}") for value in row] for row in cameras.c2w[0, :, :3].flatten(1).tolist()]


def encoded(image: UInt8[Tensor, "h w 3"]) -> tuple[bytes, str]:
    """An RGB picture as a file and its MIME type; see ``LOSSLESS``."""
    pixels = cv2.cvtColor(np.ascontiguousarray(image.numpy()), cv2.COLOR_RGB2BGR)
    if pixels.shape[0] <= LOSSLESS:
        return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(), "image/png"
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", pixels, quality)[1].tobytes(), "image/jpeg"


def _turned(c2w: Float[Tensor, "4 4"], distance: float, *, turn: float, lift: float) -> Float[Tensor, "4 4"]:
    """A pose turned about the point on its optical axis at ``distance``; angles in degrees, within ``MOST_TURN``."""
    angles = [math.radians(min(max(angle, -MOST_TURN), MOST_TURN)) for angle in (-lift, -turn)]
    rotation = c2w[:3, :3] @ so3_exp(torch.tensor([angles[0], angles[1], 0.0], dtype=c2w.dtype))
    point = c2w[:3, 3] + distance * c2w[:3, 2]
    return pose_from(rotation, point - distance * rotation[:, 2])
