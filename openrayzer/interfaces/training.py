"""Interfaces of training: losses, optimizers, schedules, loggers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Loss(nn.Module, ABC):
    """Prediction and target to one number, computed in float32."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, ""]: ...


class Optimizer(ABC):
    """How gradients become steps."""

    def __init__(self) -> None: ...

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer: ...


class Schedule(ABC):
    """The learning rate over the run."""

    def __init__(self) -> None: ...

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """What the optimizer's learning rate is multiplied by at ``step`` (from 0) of ``steps``."""


class Logger(ABC):
    """Where numbers and pictures of a run go; only rank 0 calls it. A failing logger never stops training."""

    def __init__(self) -> None: ...

    @abstractmethod
    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Called once before the first record; ``experiment`` is the resolved JSON."""

    @abstractmethod
    def record(self, values: Mapping[str, Any]) -> None:
        """One line of ``metrics.jsonl``: step, split, loss, psnr, ..."""

    def picture(self, step: int, path: Path) -> None:
        """A picture that was written to the run folder."""

    def close(self) -> None:
        """Called once at the end, also after a failure."""
