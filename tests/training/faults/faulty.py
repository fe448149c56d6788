"""Plugin for runs that fail: components that hang, are slow, or cannot reach a server or a disk."""

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from openrayzer.interfaces import LOGGERS, LOSSES, Logger, Loss
from openrayzer.models.rayzer import RayZer


@LOSSES.register("stuck")
class Stuck(Loss):
    """Mean squared error that one rank never finishes.

    Args:
        rank: the rank that hangs.
        call: number of the call, from 0, in which it hangs.
        seconds: time until it goes on.
    """

    def __init__(self, *, rank: int, call: int, seconds: float = 1e6) -> None:
        super().__init__()
        self.rank, self.call, self.seconds, self.calls = rank, call, seconds, 0

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        if os.environ["RANK"] == str(self.rank) and self.calls == self.call:
            time.sleep(self.seconds)
        self.calls += 1
        return (prediction - target).square().mean()


@LOSSES.register("dying_disk")
class DyingDisk(Loss):
    """Mean squared error, with a disk that accepts the files of one rank in a checkpoint and loses them later.

    Args:
        rank: the rank whose files are lost.
        checkpoint: name of the checkpoint.
        seconds: time until the disk reports the loss.
        sign: a file; the disk works once the file is removed.
    """

    def __init__(self, *, rank: int, checkpoint: str, seconds: float, sign: str) -> None:
        super().__init__()
        flush = os.fsync

        def fsync(descriptor: int) -> None:
            if checkpoint in os.readlink(f"/proc/self/fd/{descriptor}") and Path(sign).exists():
                time.sleep(seconds)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            flush(descriptor)

        if os.environ["RANK"] == str(rank):
            os.fsync = fsync

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().mean()


@LOSSES.register("spoilt_evaluation")
class SpoiltEvaluation(Loss):
    """Mean squared error, with a model that one rank cannot evaluate.

    Args:
        rank: the rank that fails.
        sign: a file; evaluations succeed once the file is removed.
    """

    def __init__(self, *, rank: int, sign: str) -> None:
        super().__init__()
        render = RayZer.render

        def failing(model: RayZer, *arguments: Any, **named: Any) -> Tensor:
            if os.environ["RANK"] == str(rank) and not model.training and Path(sign).exists():
                raise RuntimeError("this evaluation is spoilt")
            return render(model, *arguments, **named)

        RayZer.render = failing

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().mean()


@LOGGERS.register("unreachable")
class Unreachable(Logger):
    """A server that answers at first and fails later.

    Args:
        answers: lines that it takes.
    """

    def __init__(self, *, answers: int = 3) -> None:
        super().__init__()
        self.answers = answers

    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None: ...

    def record(self, values: Mapping[str, Any]) -> None:
        self.answers -= 1
        if self.answers < 0:
            raise ConnectionError("no route to the server")
