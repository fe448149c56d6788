"""Selection of the best checkpoint by a metric of the held-out clips. It is kept beside the newest ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openrayzer.interfaces import InputError
from openrayzer.settings import current_names

METRICS = "metrics"
"""Key in a checkpoint's manifest: the evaluation of its weights; empty before the evaluation."""


@dataclass(frozen=True)
class BestRule:
    """The rule that selects the best checkpoint.

    Attributes:
        metric: name of a metric of the evaluation, e.g. ``psnr``.
        mode: whether the largest or the smallest value is best.
    """

    metric: str
    mode: Literal["max", "min"]

    def value(self, metrics: Mapping[str, Any]) -> float | None:
        """The metric with a sign that makes larger values better; None if it is missing or not finite."""
        value = current_names(metrics).get(self.metric)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        return float(value) if self.mode == "max" else -float(value)

    def among(self, manifests: Mapping[Path, Mapping[str, Any]]) -> Path | None:
        """The best checkpoint, the earliest of equals; None if no manifest has the metric."""
        values = {path: self.value(manifest.get(METRICS, {})) for path, manifest in sorted(manifests.items())}
        measured = {path: value for path, value in values.items() if value is not None}
        return max(measured, key=lambda path: measured[path], default=None)

    def improves(self, metrics: Mapping[str, Any], manifests: Sequence[Mapping[str, Any]]) -> bool:
        """Whether ``metrics`` are better than those in all manifests.

        Raises:
            InputError: ``metrics`` lacks the metric.
        """
        if self.metric not in current_names(metrics):
            known = ", ".join(sorted(key for key, value in metrics.items() if isinstance(value, float)))
            raise InputError(f"train.best_metric {self.metric!r} is not measured; the evaluation gives: {known}")
        value = self.value(metrics)
        others = [other for manifest in manifests if (other := self.value(manifest.get(METRICS, {}))) is not None]
        return value is not None and all(value > other for other in others)
