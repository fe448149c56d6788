"""The result of an evaluation as text for the terminal."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openrayzer.evaluation.results.against_baselines import verdicts

_POSES = ("rra@5", "rra@15", "rta@15", "rpa@5", "rpa@15", "rpa@30", "auc@30", "focal_error")
"""Pose metrics of the printed table; metrics.json has all."""
_NAMED = 5  # most reasons and problems that are printed


def result_table(metrics: Mapping[str, Any], output: Path) -> str:
    """Tables of images, poses, depth and trials, the reasons for missing scenes and metrics, and the files."""
    lines = _images(metrics["summary"])
    for name, columns in metrics["differences"].items():
        lines.append(_row(name.replace("_", " "), {key: value["mean"] for key, value in columns.items()}, signed=True))
    lines += _poses(metrics["poses"])
    lines += _depth(metrics["depth"])
    lines += _gaussians(metrics["gaussians"], metrics["seconds"]["rendering"])
    lines += ["", "model minus baseline, 95 % intervals over scenes", *verdicts(metrics["against_baselines"])]
    lines += _baselines(metrics["baselines"] or {}, metrics["seconds"])
    lines += _sanity(metrics["sanity"] or {})
    lines += _transfer(metrics["transfer"] or {})
    lines += ["", *(f"{name}: {row['description']}" for name, row in metrics["placements"].items())]
    lines += ["", *_counts(metrics), f"{output}: metrics.json, per_view.csv, report.html, pictures/"]
    return "\n".join(lines)


def _images(summary: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(metric for row in summary.values() for metric in row))
    lines = [f"{'':<34}" + "".join(f"{name:>{_width(name)}}" for name in names)]
    return lines + [
        _row(method, {name: values["mean"] for name, values in row.items()}) for method, row in summary.items()
    ]


def _poses(poses: Mapping[str, Any]) -> list[str]:
    if not poses:
        return []
    lines = ["", f"{'poses':<34}" + "".join(f"{name:>12}" for name in _POSES)]
    return lines + [_row(method, {name: row[name]["mean"] for name in _POSES}) for method, row in poses.items()]


def _baselines(baselines: Mapping[str, Any], seconds: Mapping[str, Any]) -> list[str]:
    """The cost of each baseline, and the views that COLMAP has registered."""
    lines = []
    for name, row in baselines.items():
        spent = seconds[name]
        parts = [f"{row['scenes']} scenes", f"{spent['total']:.1f} s in all"]
        if "cameras_of_a_scene" in spent:
            parts.append(f"{spent['cameras_of_a_scene']:.2f} s for the cameras of a scene")
        if "views_registered" in row:
            parts.append(f"{row['views_registered']:.0%} of the views registered")
            parts.append(f"all views in {row['scenes_registered']:.0%} of the scenes")
        lines.append(f"{name}: {', '.join(parts)}")
    return lines


def _depth(depth: Mapping[str, Any]) -> list[str]:
    if not depth:
        return []
    names = list(next(iter(depth.values())))
    lines = ["", f"{'depth':<34}" + "".join(f"{name:>{_width(name)}}" for name in names)]
    return lines + [_row(method, {name: row[name]["mean"] for name in names}) for method, row in depth.items()]


def _gaussians(gaussians: Mapping[str, Any], rendering: Mapping[str, float]) -> list[str]:
    return [
        f"{name}: {row['gaussians']['mean']:.0f} Gaussians for each scene, "
        f"{row['gaussians_transparent']['mean']:.1%} transparent; {rendering['views_per_second']:g} views per second"
        for name, row in gaussians.items()
    ]


def _sanity(table: Mapping[str, Any]) -> list[str]:
    lines = []
    for placement, checks in table.items():
        lines += ["", f"{'sanity, ' + placement:<34}{'passed':>12}{'psnr change':>14}{'degrees moved':>16}"]
        lines += [
            f"{check:<34}{row['passed']:>12.0%}"
            + _cell(row["psnr_change"], 14, 3, "+")
            + _cell(row["rotation_deg"], 16, 2)
            for check, row in checks.items()
        ]
    return lines


def _transfer(table: Mapping[str, Any]) -> list[str]:
    rows = {name: row for name, row in table.items() if isinstance(row, Mapping)}
    if not rows:
        return []
    lines = ["", f"{'transfer':<34}{'auc@20':>12}{'undriven':>12}{'like scene':>12}"]
    return lines + [
        _row(
            name,
            {
                "auc@20": row["driven"]["auc@20"],
                "undriven": row["undriven"]["auc@20"],
                "like_scene": row["driven"]["like_scene"],
            },
        )
        for name, row in rows.items()
    ]


def _row(name: str, values: Mapping[str, float | None], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{name:<34}" + "".join(_cell(value, _width(column), 4, sign) for column, value in values.items())


def _width(column: str) -> int:
    return max(12, len(column) + 2)


def _cell(value: float | None, width: int, decimals: int, sign: str = "") -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{sign}{width}.{decimals}f}"


def _counts(metrics: Mapping[str, Any]) -> list[str]:
    scenes, targets = metrics["scenes"], metrics["targets"]
    lines = [
        f"scenes: {scenes['expected']} expected, {scenes['evaluated']} evaluated, {len(scenes['skipped'])} skipped; "
        f"targets: {targets['evaluated']} evaluated, {targets['equal_to_a_context']} equal to a context view, "
        f"{targets['not_finite']} not finite"
    ]
    lines += [f"  skipped: {reason}" for reason in _first(list(scenes["skipped"].values()))]
    lines += [f"  note: {problem}" for problem in _first(scenes["problems"])]
    lines += [f"  {name}: {about['missing']}" for name, about in metrics["metrics"].items() if about["missing"]]
    return lines


def _first(texts: list[str]) -> list[str]:
    counted = Counter(texts)
    shown = [text if count == 1 else f"{text} ({count} times)" for text, count in counted.most_common(_NAMED)]
    more = len(counted) - len(shown)
    return [*shown, f"{more} more in metrics.json"] if more > 0 else shown
