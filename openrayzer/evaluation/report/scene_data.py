"""The data of all scenes for the script of the page: metrics, views, cameras, pictures."""

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from openrayzer.evaluation.report.evaluation_folder import Results, View, number
from openrayzer.evaluation.report.names import kind, method
from openrayzer.evaluation.report.page_pictures import Album

CAMERA_DIGITS = 5


def scene_data(results: Results, album: Album, *, most_numbers: int) -> tuple[Markup, int]:
    """JSON for a script element, and the number of scenes without cameras in it.

    Args:
        results: the evaluation.
        album: the pictures.
        most_numbers: most numbers of cameras in the JSON.
    """
    scenes, without = [], 0
    for name in results.scenes():
        values = results.values["per_scene"][name]
        cameras, size = _cameras(values.get("cameras"))
        if size > most_numbers:
            cameras, most_numbers, without = None, 0, without + 1
        most_numbers -= size if cameras else 0
        scenes.append(
            {
                "name": name,
                "number": values.get("number"),
                "context": values.get("context", []),
                "target": values.get("target", []),
                "metrics": _rounded(values.get("metrics") or {}),
                "poses": _rounded(values.get("poses") or {}),
                "depth": _rounded(values.get("depth") or {}),
                "gaussians": _rounded(values.get("gaussians") or {}),
                "views": _views(results.views.get(name, {}), values.get("pictures") or {}),
                "cameras": cameras,
                "centres": (values.get("gaussian_centres") or {}) if cameras else {},
                "pictures": _pictures(values.get("pictures"), album),
            }
        )
    return for_script({"scenes": scenes} | _vocabulary(results)), without


def for_script(values: Any) -> Markup:
    """JSON that cannot close its script element, whatever texts it has."""
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _vocabulary(results: Results) -> dict[str, Any]:
    """Labels, kinds and digits of the methods and metrics of all scenes."""
    scenes = results.values["per_scene"].values()
    tables = [scene.get(section) or {} for scene in scenes for section in ("metrics", "poses", "depth", "gaussians")]
    methods = dict.fromkeys([*results.placements, *(name for table in tables for name in table)])
    metrics = dict.fromkeys(name for table in tables for row in table.values() for name in row)
    styles = {name: results.style(name) for name in metrics}
    return {
        "methods": {name: {"label": method(name), "kind": kind(name, results.placements)} for name in methods},
        "metrics": {
            name: {"label": style.label, "short": style.short or style.label, "decimals": style.decimals}
            for name, style in styles.items()
        },
        "placements": list(results.placements),
    }


def _views(views: Mapping[int, View], pictures: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Metrics of the target views that have pictures; the captions show them. per_view.csv has all target views."""
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
    """Cameras with three rows per pose and few digits, and the count of their numbers; None if there are none.

    Cameras of a placement that are not finite are left out.
    """
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
