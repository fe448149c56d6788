"""Training with DistributedDataParallel, the baseline for ZeRO: same model, optimizer, clipping and autocast."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from openrayzer.interfaces import Model
from openrayzer.machine.distributed import Process
from openrayzer.settings import TrainSettings
from openrayzer.training.engine import Trainee
from openrayzer.types import Prediction, Views


class PlainDDP:
    """The part of ``training.engine.Engine`` that a step needs, with DistributedDataParallel.

    Args:
        model: the model to train.
        settings: optimizer, schedule and clipping.
        bf16: whether autocast to bfloat16 is on. Weights and gradients are always float32.
        process: this process.
    """

    def __init__(self, model: Model, *, settings: TrainSettings, bf16: bool, process: Process) -> None:
        trainee = Trainee(model.to(process.device), autocast=torch.bfloat16 if bf16 else None)
        devices = [process.device] if process.device.type == "cuda" else None
        # Gradients are views of the buckets; this saves half of the memory that DDP takes by default.
        self.wrapped = DistributedDataParallel(trainee, device_ids=devices, gradient_as_bucket_view=True)
        self.optimizer = settings.optimizer.build(trainee)
        self.schedule = LambdaLR(self.optimizer, lambda step: settings.schedule.factor(step, settings.steps))
        self.settings, self.model = settings, model

    def __call__(self, views: Views) -> Prediction:
        """The model's prediction."""
        return self.wrapped.module.prediction_of(self.wrapped(views))

    def backward(self, loss: Tensor) -> None:
        """Compute gradients and average them over the processes."""
        loss.backward()

    def step(self) -> None:
        """Clip the gradients and update the weights."""
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
