"""Pictures of statistics: histograms and a contact sheet."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from openrayzer.data.preparing.statistics import THUMBNAIL, SceneStatistics
from openrayzer.interfaces import InputError
from openrayzer.machine.writing import unwritable, whole_file

_CAPTION = 18  # pixels
_MARGIN = 4
_LETTERS = 24  # shown letters of a scene's name


def draw_histograms(path: Path | str, scenes: Sequence[SceneStatistics], lengths: Sequence[int]) -> None:
    """Write histograms of lengths and, with cameras, of fields of view and movement, as a PNG file.

    Raises:
        InputError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise InputError("histograms need matplotlib: pip install 'openrayzer[plots]'") from error
    columns: list[tuple[str, list[list[float]], list[str]]] = [
        ("frames of a scene", [[float(length) for length in lengths]], [])
    ]
    posed = [scene for scene in scenes if scene.fov]
    if posed:
        fields = [[scene.fov[0] for scene in posed], [scene.fov[1] for scene in posed]]
        ratios = [scene.step[0] / scene.span[0] for scene in posed if scene.step and scene.span[0] > 0]
        columns += [
            ("field of view in degrees", fields, ["horizontal", "vertical"]),
            ("baseline: largest distance of two cameras,\nin units of the poses", [[s.span[0] for s in posed]], []),
            ("step between frames,\nshare of the largest distance", [ratios], []),
            ("largest angle between views in degrees", [[scene.turn[0] for scene in posed]], []),
        ]
    figure = Figure(figsize=(4 * len(columns), 3.2), layout="constrained")
    for place, (title, values, labels) in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), place + 1)
        axes.hist(values, bins=20, label=labels or None)
        axes.set_xlabel(title)
        axes.set_ylabel("scenes")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if labels:
            axes.legend()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    _write(path, buffer.getvalue())


def draw_contact_sheet(path: Path | str, scenes: Sequence[SceneStatistics], *, columns: int = 2) -> None:
    """Write thumbnails of each scene below its name, as a PNG file.

    Raises:
        InputError: the file cannot be written.
    """
    strips = [_strip(scene, max(len(scene.thumbnails) for scene in scenes)) for scene in scenes]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % columns)
    rows = [np.concatenate(strips[first : first + columns], axis=1) for first in range(0, len(strips), columns)]
    _write(path, cv2.imencode(".png", np.concatenate(rows)[:, :, ::-1])[1].tobytes())


def _strip(scene: SceneStatistics, count: int) -> np.ndarray:
    height, width = THUMBNAIL
    strip = np.full((height + _CAPTION + _MARGIN, count * width + 2 * _MARGIN, 3), 255, np.uint8)
    for place, thumbnail in enumerate(scene.thumbnails):
        strip[_CAPTION : _CAPTION + height, _MARGIN + place * width : _MARGIN + (place + 1) * width] = thumbnail
    name = scene.key if len(scene.key) <= _LETTERS else f"...{scene.key[-_LETTERS:]}"
    fov = f", {scene.fov[0]:.0f} x {scene.fov[1]:.0f} degrees" if scene.fov else ""
    text = f"{name}: {scene.num_frames} frames, {scene.sizes[0]}{fov}".encode("ascii", "replace").decode()
    cv2.putText(strip, text, (_MARGIN, _CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _write(path: Path | str, data: bytes) -> None:
    try:
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise unwritable(Path(path), error) from error
