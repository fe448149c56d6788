"""What was measured on one scene: plain Python values that travel between processes."""

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, list[float]]
"""Metric to one value per target."""


@dataclass
class SceneResult:
    """One scene.

    Attributes:
        scene: its name.
        number: its place among the scenes of the evaluation.
        context: frame numbers of the context views.
        target: frame numbers of the target views.
        images: method to metric to one value per target; NaN where the rendered image is not finite.
        poses: method to pose metric; empty where there are no true cameras or poses are given.
        cameras: of all views, for plotting: frames, true ones, those of each placement.
        pictures: what metrics.json says of the scene's pictures: kind to frame number to path.
        files: the pictures themselves, encoded, by path.
        sweep: number of contexts to method to metric.
        transfer: transfer scores of the scene's clip, where it had a partner.
        sanity: results of the sanity battery.
    """

    scene: str
    number: int
    context: list[int]
    target: list[int]
    images: dict[str, Row]
    poses: dict[str, dict[str, float]] = field(default_factory=dict)
    cameras: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    sweep: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    transfer: dict[str, Any] = field(default_factory=dict)
    sanity: dict[str, Any] = field(default_factory=dict)

    @property
    def equals_context(self) -> list[bool]:
        """Whether each target is a context frame, too."""
        return [frame in self.context for frame in self.target]

    def mean(self, method: str, metric: str, *, without_context_targets: bool = False) -> float | None:
        """The mean over target views; NaN if one of them is NaN; None if there is nothing to average."""
        values = self.images.get(method, {}).get(metric)
        if values is None:
            return None
        if without_context_targets:
            values = [value for value, same in zip(values, self.equals_context, strict=True) if not same]
        return sum(values) / len(values) if values else None
