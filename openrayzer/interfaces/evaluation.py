"""Interface of evaluation: metrics of rendered views."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor


class Metric(ABC):
    """One number per rendered view.

    The class describes the metric, and ``compute`` measures it. Reports, comparisons and documentation read the
    attributes. The constructor of a metric with ``weights_url`` takes the file of these weights:
    ``__init__(self, *, weights: Path)``.

    Attributes:
        label: name in tables and captions, e.g. "PSNR"; empty for the registered name.
        unit: e.g. "dB"; empty for a number without a unit.
        better: whether higher or lower values are better.
        digits: decimal places in tables.
        definition: all settings besides the images on which the value depends, such as the size of a window.
            Comparisons of two evaluations use a metric only if its definitions are equal.
        weights_url: address of the pretrained weights; empty for a metric without weights. Without a path from the
            user, the evaluation looks for the file in ``weights/``.
        position: order of columns in tables; equal positions are ordered by registered name.
    """

    label: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    digits: ClassVar[int] = 3
    definition: ClassVar[str] = ""
    weights_url: ClassVar[str] = ""
    position: ClassVar[int] = 100

    def __init__(self) -> None: ...

    @abstractmethod
    def compute(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, "b v"]:
        """The metric of each view, in float32; finite if both images are.

        Args:
            prediction: rendered views, float32, clamped to [0, 1].
            target: true views in [0, 1].

        Raises:
            InputError: the metric does not exist for images of this size. The evaluation goes on without it.
        """

    def to(self, device: torch.device | str) -> "Metric":
        """The metric with its weights on ``device``; a metric without weights returns itself."""
        return self
