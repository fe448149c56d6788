"""The interface of baselines, their results, and their part of metrics.json."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, ClassVar

from openrayzer.evaluation.results.scene_result import MetricRow, SceneResult, method_means
from openrayzer.evaluation.results.summary import SECONDS
from openrayzer.interfaces import InputError, UnposedInputError
from openrayzer.types import Views


@dataclass(frozen=True)
class BaselineResult:
    """One baseline on one scene.

    Attributes:
        images: method -> metric -> one value per target.
        poses: method -> pose metric -> value.
        depth: method -> depth metric -> value.
        numbers: further numbers by name; ``seconds`` is the time to find the cameras.
    """

    images: dict[str, MetricRow] = field(default_factory=dict)
    poses: dict[str, dict[str, float]] = field(default_factory=dict)
    depth: dict[str, dict[str, float]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)


class Baseline(ABC):
    """A baseline that looks at the images.

    Attributes:
        name: the value of ``--baselines``, and the key in metrics.json.
        description: one or two sentences.
        swept: whether the views sweep includes it.
        has_depth: whether it has depth maps.
        seconds: duration of all measurements so far.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    swept: ClassVar[bool] = False
    has_depth: ClassVar[bool] = False

    def __init__(self) -> None:
        self.seconds = 0.0

    @abstractmethod
    def measure(self, views: Views) -> list[BaselineResult]:
        """One result per scene of the batch.

        Raises:
            InputError: the baseline cannot take such views.
            UnposedInputError: it needs cameras, and the views have none.
        """

    def __call__(self, views: Views) -> list[BaselineResult]:
        """``measure``, counted in ``seconds``."""
        started = time.monotonic()
        try:
            return self.measure(views)
        finally:
            self.seconds += time.monotonic() - started

    def means(self, clip: Views) -> dict[str, dict[str, float]]:
        """Method -> metric -> value of one clip."""
        (result,) = self(clip)
        return method_means(result.images, result.poses)

    def add_to(self, results: Sequence[SceneResult], views: Views) -> list[str]:
        """Add the measurements to the results of a batch.

        Returns:
            A sentence if the baseline cannot take the batch.
        """
        try:
            measured = self(views)
        except (InputError, UnposedInputError) as error:
            return [f"no baseline {self.name} for {', '.join(views.scenes)}: {error}"]
        for result, own in zip(results, measured, strict=True):
            result.images |= own.images
            result.poses |= own.poses
            result.depth |= own.depth
            result.baselines[self.name] = own.numbers
        return []


def baseline_table(baselines: Sequence[Baseline], results: Sequence[SceneResult]) -> dict[str, Any] | None:
    """Baseline -> description, number of scenes, means of its numbers over scenes; None without baselines."""
    table: dict[str, Any] = {}
    for baseline in baselines:
        rows = _rows(baseline, results)
        names = dict.fromkeys(name for row in rows for name in row if name != SECONDS)
        table[baseline.name] = {"description": baseline.description, "scenes": len(rows)}
        table[baseline.name] |= {name: fmean(row[name] for row in rows) for name in names}
    return table or None


def baseline_seconds(
    baselines: Sequence[Baseline], results: Sequence[SceneResult], total: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Baseline -> seconds of all its measurements, and mean seconds to find the cameras of a scene.

    Args:
        baselines: all baselines.
        results: of all scenes.
        total: sum of ``Baseline.seconds`` over all processes, by name.
    """
    table = {}
    for baseline in baselines:
        table[baseline.name] = {"total": round(total[baseline.name], 3)}
        if rows := _rows(baseline, results):
            table[baseline.name]["cameras_of_a_scene"] = round(fmean(row[SECONDS] for row in rows), 3)
    return table


def _rows(baseline: Baseline, results: Sequence[SceneResult]) -> list[dict[str, float]]:
    return [result.baselines[baseline.name] for result in results if baseline.name in result.baselines]
