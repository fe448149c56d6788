"""Interfaces of training: objectives, losses, optimizers, schedules, loggers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.interfaces.model import Model
from openrayzer.types import Prediction, Views


class Objective(nn.Module, ABC):
    """Makes the predictions of the target views that the losses compare with the true views, and perhaps more losses.

    Only training uses an objective. Evaluation and every other use call the model itself. The weights of an objective
    are trained and saved in checkpoints beside the model's, but they are no part of the model: nothing exports them.

    Attributes:
        shares_views: whether the objective suits a model that divides the views of a clip among processes. An objective
            that calls the public methods of a model does. One that reads tokens of the model's blocks does not, because
            a process has only the tokens of its views.
    """

    shares_views: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def check_model(self, model: Model) -> None:
        """Refuse a model that does not suit; by default, accept all.

        Raises:
            InputError: the model does not suit; the message gives the reason and a remedy.
        """

    @abstractmethod
    def forward(self, model: Model, views: Views) -> Prediction:
        """The prediction, whose ``extra_losses`` are those of the model and of the objective."""


class Loss(nn.Module, ABC):
    """Computes one number from rendered and true images, in float32 even under autocast.

    Networks in a loss are frozen and stay in evaluation mode.

    Attributes:
        mean_over_views: whether the loss of a batch is the mean of the losses of its views. Processes that share clips
            then divide the views. Otherwise, each process computes the loss of all views.
    """

    mean_over_views: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, ""]:
        """The loss of a batch, 0 for equal images; its gradient reaches ``prediction``.

        Args:
            prediction: rendered views, in [0, 1] or slightly beyond.
            target: true views in [0, 1].

        Raises:
            InputError: the images are too small for the loss.
        """


class Optimizer(ABC):
    """Builds the optimizer of a run."""

    def __init__(self) -> None: ...

    @abstractmethod
    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """A PyTorch optimizer of the trainable weights of ``model``, with the peak learning rate.

        Raises:
            InputError: the model has no trainable weights.
        """


class Schedule(ABC):
    """The learning rate over a run, as a factor of the peak learning rate."""

    def __init__(self) -> None: ...

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """The factor in [0, 1] at one step.

        It depends on the arguments alone, because a resumed run may start at any step.

        Args:
            step: optimizer step, from 0.
            steps: number of optimizer steps of the run.
        """


class Logger(ABC):
    """Receives numbers and pictures of a run on rank 0. If a logger fails, the run continues without it.

    Attributes:
        on_every_rank: whether the other ranks open this logger as well; they only open and close it.
        takes_model_card: whether the model card is written for this logger at the end of the run.
    """

    on_every_rank: bool = False
    takes_model_card: bool = False

    def __init__(self) -> None: ...

    @abstractmethod
    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Start the records of a run or of its continuation. Training calls it once, before the first record.

        Args:
            run_folder: the folder of the run; a logger writes into it and nowhere else.
            experiment: the experiment as JSON, with all defaults.
        """

    @abstractmethod
    def record(self, values: Mapping[str, Any]) -> None:
        """Record one line of ``metrics.jsonl``: step, split, loss, psnr, ... Numbers may be NaN or infinite."""

    def picture(self, step: int, path: Path) -> None:
        """Record a picture, a file in the run folder. By default, nothing happens."""

    def table(self, step: int, split: str, path: Path) -> None:
        """Record the table of an evaluation, a CSV file in the run folder. By default, nothing happens.

        Args:
            step: optimizer step of the evaluated weights.
            split: ``split`` of the line of ``metrics.jsonl``: ``test``, or ``test_ema`` for averaged weights.
            path: the file, with one line for each target view.
        """

    def model_card(self, path: Path) -> None:
        """Record the model card, a Markdown file in the run folder. By default, nothing happens."""

    def close(self) -> None:
        """Finish the records. Training calls it once at the end, after errors as well. By default, nothing happens."""
