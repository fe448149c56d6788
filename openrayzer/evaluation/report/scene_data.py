"""Scenes as the page's script reads them: metrics, views, cameras, pictures."""

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from openrayzer.evaluation.report.evaluation_folder import Results, View, number
from openrayzer.evaluation.report.names import kind, method, metric
from openrayzer.evaluation.report.page_pictures import Album

CAMERA_DIGITS = 5


def scene_data(results: Results, album: Album, *, camera_room: int) -> tuple[Markup, int]:
    """JSON for a script element, and the number of scenes whose cameras found no room.

    Args:
        results: the evaluation.
        album: gives the pictures.
        camera_room: numbers of cameras that may be in it.
    """
    scenes, without = [], 0
    for name in results.scenes():
        values = results.values["per_scene"][name]
        cameras, size = _cameras(values.get("cameras"))
        if size > camera_room:
            cameras, camera_room, without = None, 0, without + 1
        camera_room -= size if cameras else 0
        scenes.append(
            {
                "name": name,
                "number": values.get("number"),
                "context": values.get("context", []),
                "target": values.get("target", []),
                "metrics": _rounded(values.get("metrics") or {}),
                "poses": _rounded(values.get("poses") or {}),
                "views": _views(results.views.get(name, {}), values.get("pictures") or {}),
                "cameras": cameras,
                "pictures": _pictures(values.get("pictures"), album),
            }
        )
    return for_script({"scenes": scenes} | _vocabulary(results)), without


def for_script(values: Any) -> Markup:
    """JSON that cannot end the script element it stands in, whatever its texts say."""
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _vocabulary(results: Results) -> dict[str, Any]:
    """Labels, kinds and digits of all that is named in the scenes."""
    scenes = results.values["per_scene"].values()
    tables = [table for scene in scenes for table in (scene.get("metrics") or {}, scene.get("poses") or {})]
    methods = dict.fromkeys([*results.placements, *(name for table in tables for name in table)])
    metrics = dict.fromkeys(name for table in tables for row in table.values() for name in row)
    named = {name: metric(name) for name in metrics}
    return {
        "methods": {name: {"label": method(name), "kind": kind(name, results.placements)} for name in methods},
        "metrics": {
            name: {"label": how.label, "short": how.short or how.label, "decimals": how.decimals}
            for name, how in named.items()
        },
        "placements": list(results.placements),
    }


def _views(views: Mapping[int, View], pictures: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Of the target views that have pictures, which is where their numbers stand; all others are in per_view.csv."""
    drawn = {frame for group in pictures.values() for frame in group}
    return {
        str(frame): {"equal": view.equals_context, "metrics": _rounded(view.metrics)}
        for frame, view in views.items()
        if str(frame) in drawn
    }


def _pictures(pictures: Mapping[str, Mapping[str, str]] | None, album: Album) -> dict[str, dict[str, str | None]]:
    return {
        group: {frame: album.source(path) for frame, path in frames.items()}
        for group, frames in (pictures or {}).items()
    }


def _cameras(cameras: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, int]:
    """Cameras with three rows a pose and few digits, and how many numbers that is; None if one is not finite."""
    if not cameras:
        return None, 0
    groups = {name: value for name, value in cameras.items() if name != "frames" and value}
    result: dict[str, Any] = {"frames": cameras.get("frames", []), "groups": {}}
    size = 0
    for name, group in groups.items():
        poses = [[[_short(x) for x in row] for row in pose[:3]] for pose in group["c2w"]]
        lenses = [[_short(x) for x in lens] for lens in group["intrinsics"]]
        if any(x is None for pose in poses for row in pose for x in row) or any(None in lens for lens in lenses):
            continue
        result["groups"][name] = {"c2w": poses, "intrinsics": lenses, "aligned": bool(group.get("aligned"))}
        size += 16 * len(poses)
    return (result, size) if result["groups"] else (None, 0)


def _rounded(table: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    return {row: {name: _short(value) for name, value in values.items()} for row, values in table.items()}


def _short(value: object) -> float | None:
    exact = number(value)
    return None if exact is None else float(f"{exact:.{CAMERA_DIGITS}g}")
