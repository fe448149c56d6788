"""The measurements of one scene, as plain Python values that processes can exchange."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

MetricRow = dict[str, list[float]]
"""Metric -> one value per target."""


def method_means(
    images: Mapping[str, MetricRow], poses: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Method -> metric -> value of one scene: means over targets of the image metrics, beside the pose metrics."""
    means = {
        method: {metric: fmean(values) for metric, values in metrics.items()} for method, metrics in images.items()
    }
    return {method: means.get(method, {}) | dict(poses.get(method, {})) for method in {**means, **poses}}


@dataclass
class SceneResult:
    """One scene.

    Attributes:
        scene: name.
        number: position in the evaluation.
        context: frame numbers of the context views.
        target: frame numbers of the target views.
        images: method -> metric -> one value per target; NaN if the rendered image is not finite.
        quality: larger for scenes that are rendered better; None if nothing was measured.
        poses: method -> pose metric -> value; empty without true cameras, and for a model that is given poses.
        depth: method -> depth metric -> value; empty without true depth, and for a model without depth maps.
        gaussians: placement -> numbers of the Gaussians of its scene; empty for a model without Gaussians.
        centres: placement -> positions and colours of some Gaussians for plots, in the frame of ``cameras``.
        cameras: cameras of all views for plots: frames, true cameras, and those of each placement.
        pictures: kind -> frame number -> path, for metrics.json.
        files: path -> encoded picture.
        sweep: number of context views -> method -> metric -> value.
        sanity: placement -> sanity check -> result.
        baselines: baseline -> numbers besides its metrics, such as its seconds.
    """

    scene: str
    number: int
    context: list[int]
    target: list[int]
    images: dict[str, MetricRow]
    quality: float | None = None
    poses: dict[str, dict[str, float]] = field(default_factory=dict)
    depth: dict[str, dict[str, float]] = field(default_factory=dict)
    gaussians: dict[str, dict[str, float]] = field(default_factory=dict)
    centres: dict[str, Any] = field(default_factory=dict)
    cameras: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    sweep: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    sanity: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def equals_context(self) -> list[bool]:
        """Whether each target is also a context frame."""
        return [frame in self.context for frame in self.target]

    def mean(self, method: str, metric: str, *, without_context_targets: bool = False) -> float | None:
        """The mean over target views; NaN if one value is NaN; None if there is no value."""
        values = self.images.get(method, {}).get(metric)
        if values is None:
            return None
        if without_context_targets:
            values = [value for value, same in zip(values, self.equals_context, strict=True) if not same]
        return sum(values) / len(values) if values else None
