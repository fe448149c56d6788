"""Several metrics of the same images, with a reason for each metric that cannot be computed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import METRICS, InputError, Metric, concerning

WEIGHTS = Path("weights")
"""Folder in which the evaluation looks for weights of metrics."""


def metric_names() -> list[str]:
    """All registered metrics in the order of tables."""
    return [entry.name for entry in sorted(METRICS, key=lambda entry: (entry.target.position, entry.name))]


def about_metric(name: str) -> dict[str, Any]:
    """How reports and tables write the values of a registered metric: label, unit, better, digits, definition."""
    metric = METRICS[name]
    return {
        "label": metric.label or name,
        "unit": metric.unit,
        "better": metric.better,
        "digits": metric.digits,
        "definition": metric.definition,
    }


class ImageScores:
    """The values of several metrics for images of one size.

    A metric is left out if its weights are not there, or if it does not exist for images of this size.

    Args:
        image_size: height and width in pixels.
        metrics: registered names; None for all metrics.
        weights: files of pretrained weights by metric. Without a path, the file is looked for in ``weights/``.
        device: device of the images.

    Attributes:
        names: the requested metrics, in the order of tables.
        missing: metric name -> reason why it cannot be computed.
        weights: metric name -> file of its weights.

    Raises:
        InputError: no metric can be computed, a given file is missing, damaged or of another network, or a metric
            takes no weights.
        UnknownNameError: no metric has this name.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        metrics: Iterable[str] | None = None,
        weights: Mapping[str, Path | None] | None = None,
        device: torch.device | str,
    ) -> None:
        asked = None if metrics is None else {name: METRICS[name] for name in metrics}
        self.names = [name for name in metric_names() if asked is None or name in asked]
        self.missing: dict[str, str] = {}
        self.weights: dict[str, str] = {}
        self._metrics: dict[str, Metric] = {}
        given = weights or {}
        for name in given:
            if not METRICS[name].weights_url:
                raise InputError(f"the metric {name!r} takes no weights")
        blank = torch.zeros(1, 1, 3, *image_size, device=device)
        for name in self.names:
            metric = self._build(name, given.get(name))
            if metric is None:
                continue
            try:
                self._metrics[name] = metric.to(device)
                metric.compute(blank, blank)
            except InputError as error:
                self.missing[name] = str(error)
                del self._metrics[name]
        if not self._metrics:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())
            raise InputError(f"no metric can be computed: {reasons}")

    @property
    def available(self) -> list[str]:
        """The metrics that can be computed, in the order of tables."""
        return list(self._metrics)

    @torch.no_grad()
    def __call__(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> dict[str, Float[Tensor, "b v"]]:
        """The value of each metric for each image, with predictions clamped to [0, 1].

        The value is NaN for an image with a pixel that is not finite, even if clamping would make the pixel finite.
        """
        finite = prediction.isfinite().all(dim=4).all(dim=3).all(dim=2)
        prediction = prediction.float().clamp(0, 1)
        return {
            name: metric.compute(prediction, target).masked_fill(~finite, float("nan"))
            for name, metric in self._metrics.items()
        }

    def about(self) -> dict[str, dict[str, Any]]:
        """For metrics.json: how each metric is written, its file of weights, and why it is missing."""
        return {
            name: about_metric(name) | {"weights": self.weights.get(name), "missing": self.missing.get(name)}
            for name in self.names
        }

    def _build(self, name: str, given: Path | None) -> Metric | None:
        target = METRICS[name]
        if not target.weights_url:
            return target()
        file = given or WEIGHTS / Path(urlsplit(target.weights_url).path).name
        if given is None and not file.is_file():
            self.missing[name] = (
                f"no weights: get {target.weights_url} into {WEIGHTS}/, or give the file with "
                f"--metric_weights {name}=FILE"
            )
            return None
        self.weights[name] = str(file)
        with concerning(f"--metric_weights {name}"):
            return target(weights=file)  # type: ignore[call-arg]
