"""Labels of methods and metrics in tables and plots; an unknown name is its own label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openrayzer.evaluation.metrics.image_scores import about_metric
from openrayzer.interfaces import METRICS

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
EXCHANGED = "_exchanged_cameras"
"""End of the name of a method that renders with exchanged target cameras."""


@dataclass(frozen=True)
class MetricStyle:
    """How the values of a metric are written.

    Attributes:
        label: name and unit.
        decimals: digits after the point.
        better: ``higher``, ``lower``, or empty if neither is better.
        short: name without unit, for captions of pictures.
    """

    label: str
    decimals: int
    better: str = ""
    short: str = ""


POSE_METRICS = {
    "rotation_error_deg": MetricStyle("Rotation error, °", 2, "lower"),
    "translation_error": MetricStyle("Translation error", 3, "lower"),
    "focal_error": MetricStyle("Focal error", 3, "lower"),
}
DEPTH_METRICS = {
    "depth_abs_rel": MetricStyle("Depth, AbsRel", 3, "lower"),
    "depth_delta_1.25": MetricStyle("Depth, share below 1.25", 3, "higher"),
}
GAUSSIAN_NUMBERS = {
    "gaussians": MetricStyle("Gaussians", 0),
    "gaussians_transparent": MetricStyle("Share that is transparent", 3),
}
POSE_MEASURES = {
    "rra": "RRA",
    "rta": "RTA",
    "rta_unfolded": "RTA unfolded",
    "rpa": "RPA",
    "auc": "AUC",
    "rotation": "Rotation",
    "translation": "Translation",
}
"""Measures with a threshold in degrees, such as ``rra@5``."""
METHODS = {
    "given_poses": "Given poses",
    "joint": "Joint",
    "context_only": "Context only",
    "nearest_context": "Nearest context view",
    "mean_context": "Mean of context views",
    "plane": "Plane",
    "constant_pose": "Constant pose",
    "straight_line": "Straight line",
    "random_poses": "Random poses",
    "sfm": "Untrained geometry",
    "colmap": "COLMAP",
    "colmap_registered": "COLMAP, registered views",
}
UNTRAINED = "sfm_"
"""Start of the names of the methods of the untrained geometric model; the name of a placement follows."""


def metric_style(name: str, described: Mapping[str, Any] | None = None) -> MetricStyle:
    """How the metric ``name`` is written.

    Args:
        name: an image metric, a pose metric, a depth metric or a number of Gaussians.
        described: section ``metrics`` of metrics.json, which describes image metrics even if their plugin is not loaded
            here. Older files have none; then the registry describes them.
    """
    if described and isinstance(about := described.get(name), Mapping):
        return _styled(name, about)
    if name in METRICS:
        return _styled(name, about_metric(name))
    measure, at, threshold = name.partition("@")
    if at and measure in POSE_MEASURES:
        return MetricStyle(f"{POSE_MEASURES[measure]} @ {threshold}°", 3, "higher")
    return (POSE_METRICS | DEPTH_METRICS | GAUSSIAN_NUMBERS).get(name, MetricStyle(name.replace("_", " "), 3))


def _styled(name: str, about: Mapping[str, Any]) -> MetricStyle:
    short, unit = str(about.get("label") or name), about.get("unit")
    label = f"{short}, {unit}" if unit else short
    return MetricStyle(label, int(about.get("digits", 3)), str(about.get("better", "")), short)


def method(name: str) -> str:
    """Label of the method ``name``."""
    if name.endswith(EXCHANGED):
        return f"{method(name.removesuffix(EXCHANGED))}, cameras exchanged"
    if name.startswith(UNTRAINED):
        return f"Untrained geometry, {method(name.removeprefix(UNTRAINED)).lower()}"
    return METHODS.get(name, name.replace("_", " "))


def kind(name: str, placements: tuple[str, ...]) -> str:
    """CSS class that gives a method its colour: the name of a known placement, ``other``, or ``baseline``."""
    if name not in placements:
        return "baseline"
    return name if name in METHODS else "other"


def written(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """A number as text, with a real minus sign and no minus before zero; a dash for None."""
    if value is None:
        return DASH
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)
