"""The files of a scene that a visitor can download, and the reasons why a scene lacks some of them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from openrayzer.data.pixels.false_colours import as_picture
from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.interfaces import GaussianScene, InputError
from openrayzer.types import Cameras
from openrayzer.video.camera_files import NERFSTUDIO, export_cameras
from openrayzer.video.exporting import MIN_OPACITY
from openrayzer.video.mp4 import Mp4Writer, check_output
from openrayzer.video.placing import render_frames, render_map_frames
from openrayzer.video.points import check_points_output, write_points
from openrayzer.video.splat_files import kept_gaussians, write_gaussians
from openrayzer.web.answers import Refused
from openrayzer.web.kept_scene import COLOUR, KeptScene

FPS = 30.0
NEEDS_DEPTH = "this model has neither depth nor Gaussians"


def video_frames(scene: KeptScene, cameras: Cameras, output: Path, *, shown: str = COLOUR) -> Iterator[float]:
    """Write a video and yield its finished share after each frame. A video that is not finished leaves no file.

    Args:
        scene: the scene.
        cameras: cameras of the frames, (1, f).
        output: the .mp4 file.
        shown: "colour", or the name of a map.
    """
    model, held = scene.loaded.model, scene.placed.scene
    if shown == COLOUR:
        pictures = (to_bytes(image) for image in render_frames(model, held, cameras))
    elif shown in scene.maps:
        rendered = render_map_frames(model, held, cameras)
        pictures = (as_picture(shown, maps[shown], scene.ranges[shown]) for maps in rendered)
    else:
        raise Refused(f"This model has no map {shown!r}.")
    with Mp4Writer(output, fps=FPS) as video:
        for number, picture in enumerate(pictures):
            video.add(picture.numpy())
            yield (number + 1) / cameras.num_views


def file_table(scene: KeptScene) -> list[dict[str, Any]]:
    """The files by name, with a label for the visitor, and the reason why the scene lacks one, else ""."""
    points = "Gaussians, PLY" if scene.is_explicit else "Coloured points, PLY"
    return [{"file": file, "label": label or points, "why": why(scene)} for file, (label, why, _) in FILES.items()]


def write_file(scene: KeptScene, name: str) -> Path:
    """Write a file of ``FILES``, unless it is already there, and return its path.

    Raises:
        Refused: there is no such file, or the scene cannot have it.
    """
    if name not in FILES:
        raise Refused("There is no such file.")
    _, why, write = FILES[name]
    reason = why(scene)
    if reason:
        raise Refused(f"{name} cannot be made: {reason}.")
    path = scene.folder / name
    if not path.is_file():
        write(scene, path)
    return path


def video_reason(scene: KeptScene) -> str:
    """The reason why no video can be written; empty if it can."""
    return _reason(lambda: check_output(scene.folder / "video.mp4"))


def _always(scene: KeptScene) -> str:
    return ""


def _ply_reason(scene: KeptScene) -> str:
    if scene.is_explicit:
        return ""
    if scene.points is None:
        return NEEDS_DEPTH
    if not scene.points.num_points:
        return "no pixel has a depth of enough confidence"
    return _reason(lambda: check_points_output(scene.folder / "scene.ply"))


def _reason(check: Callable[[], None]) -> str:
    try:
        check()
    except InputError as error:
        return str(error)
    return ""


def _write_json(scene: KeptScene, path: Path) -> None:
    export_cameras(path, scene.cameras, names=scene.views.names, images=scene.views.images)


def _write_colmap(scene: KeptScene, path: Path) -> None:
    cloud = scene.points
    points = None if cloud is None else (cloud.positions, cloud.colours)
    _zipped(scene, path, lambda folder: folder / "colmap", points)


def _write_nerfstudio(scene: KeptScene, path: Path) -> None:
    _zipped(scene, path, lambda folder: folder / NERFSTUDIO, None)


def _zipped(scene: KeptScene, path: Path, output: Callable[[Path], Path], points: Any) -> None:
    with TemporaryDirectory(dir=scene.folder) as name:
        inside, archive = Path(name) / path.stem, Path(name) / "archive"
        export_cameras(output(inside), scene.cameras, names=scene.views.names, images=scene.views.images, points=points)
        shutil.move(shutil.make_archive(str(archive), "zip", inside), path)


def _write_ply(scene: KeptScene, path: Path) -> None:
    held = scene.placed.scene
    if isinstance(held, GaussianScene):
        write_gaussians(path, kept_gaussians(held.gaussians, held.gaussians.opacities >= MIN_OPACITY))
    else:
        write_points(path, scene.points)


FILES: dict[str, tuple[str, Callable[[KeptScene], str], Callable[[KeptScene, Path], None]]] = {
    "cameras.json": ("Cameras, JSON", _always, _write_json),
    "colmap.zip": ("Cameras and photos, COLMAP", _always, _write_colmap),
    "nerfstudio.zip": ("Cameras and photos, nerfstudio", _always, _write_nerfstudio),
    "scene.ply": ("", _ply_reason, _write_ply),
}
"""Label, reason against it, and writer of each file; the label of the PLY file depends on the scene."""
