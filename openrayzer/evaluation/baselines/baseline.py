"""The interface of baselines, their results, and their part of metrics.json."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, ClassVar

from openrayzer.evaluation.results.scene_result import MetricRow, SceneResult
from openrayzer.interfaces import InputError, UnposedInputError
from openrayzer.types import Views


@dataclass
class BaselineResult:
    """One baseline on one scene.

    Attributes:
        images: method -> metric -> one value per target.
        poses: method -> pose metric -> value.
        numbers: further numbers by name, such as ``seconds``.
    """

    images: dict[str, MetricRow] = field(default_factory=dict)
    poses: dict[str, dict[str, float]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, dict[str, float]]:
        """Method -> metric -> value of the scene: the mean over targets of image metrics, and the pose metrics."""
        images = {
            method: {metric: fmean(values) for metric, values in metrics.items()}
            for method, metrics in self.images.items()
        }
        return {method: images.get(method, {}) | self.poses.get(method, {}) for method in {**images, **self.poses}}


class Baseline(ABC):
    """A baseline that looks at the images.

    Attributes:
        name: the value of ``--baselines``, and the key in metrics.json.
        description: one or two sentences.
        swept: whether the views sweep includes it.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    swept: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, views: Views) -> list[BaselineResult]:
        """One result per scene of the batch.

        Raises:
            InputError: the baseline cannot take such views.
            UnposedInputError: it needs cameras, and the views have none.
        """


def add_baseline(baseline: Baseline, views: Views, results: Sequence[SceneResult]) -> tuple[float, list[str]]:
    """Add a baseline to the results of a batch.

    Returns:
        The seconds it took, and a sentence if the baseline cannot take the batch.
    """
    started = time.monotonic()
    try:
        found = baseline(views)
    except (InputError, UnposedInputError) as error:
        return time.monotonic() - started, [f"no baseline {baseline.name} for {', '.join(views.scenes)}: {error}"]
    for result, row in zip(results, found, strict=True):
        result.images |= row.images
        result.poses |= row.poses
        result.baselines[baseline.name] = row.numbers
    return time.monotonic() - started, []


def baseline_table(
    baselines: Sequence[Baseline], results: Sequence[SceneResult], seconds: Mapping[str, float]
) -> dict[str, Any] | None:
    """Baseline -> description, number of scenes, means of its numbers, and total seconds; None without baselines."""
    table: dict[str, Any] = {}
    for baseline in baselines:
        rows = [result.baselines[baseline.name] for result in results if baseline.name in result.baselines]
        names = dict.fromkeys(name for row in rows for name in row)
        means = {name: math.fsum(row[name] for row in rows) / len(rows) for name in names}
        total = round(seconds.get(baseline.name, 0.0), 3)
        table[baseline.name] = {"description": baseline.description, "scenes": len(rows)} | means
        table[baseline.name]["total_seconds"] = total
    return table or None
