"""A model inside DeepSpeed: forward, backward, optimizer step, evaluation mode."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from openrayzer.interfaces import Model, Objective
from openrayzer.layers.tf32 import exact_float32, tf32_products
from openrayzer.layers.view_shares import share_views
from openrayzer.machine.autocast import autocast_to
from openrayzer.machine.distributed import Process
from openrayzer.settings import TrainSettings
from openrayzer.training.checkpointing.zero_partition import ZeroPartition, share_weights
from openrayzer.training.compiling import compile_blocks, compiling, uncompiled
from openrayzer.training.faults.skip_rule import Objection, SkipRule, no_objection
from openrayzer.training.focal_warm_up import hold_focal_lengths
from openrayzer.training.sequence_parallel import shares_of
from openrayzer.training.weight_average import WeightAverage
from openrayzer.types import Cameras, Prediction, Views

LOG = logging.getLogger(__name__)


class TrainingStopped(RuntimeError):  # noqa: N818
    """Training cannot continue; the message gives the reason and a remedy. Tools exit with code 3."""


class Trainee(nn.Module):
    """The module that DeepSpeed trains. It returns a tuple, because DeepSpeed's hooks find tensors in tuples only.

    Args:
        model: the model.
        objective: makes the predictions; None calls the model.
        autocast: dtype of an autocast inside ``forward``; None leaves the precision to DeepSpeed.
    """

    def __init__(self, model: Model, *, autocast: torch.dtype | None, objective: Objective | None = None) -> None:
        super().__init__()
        self.model, self.objective, self.autocast = model, objective, autocast
        self.names: tuple[tuple[str, ...], tuple[str, ...]] = (), ()

    def forward(self, views: Views) -> tuple[Tensor, ...]:
        """The tensors of the model's prediction; ``prediction_of`` puts them together again."""
        with autocast_to(views.images.device.type, self.autocast):
            prediction = self.model(views) if self.objective is None else self.objective(self.model, views)
        losses, maps = prediction.extra_losses, prediction.extra_images
        self.names = tuple(losses), tuple(maps)
        cameras = prediction.cameras
        return prediction.images, cameras.c2w, cameras.intrinsics, *losses.values(), *maps.values()

    def prediction_of(self, tensors: Sequence[Tensor]) -> Prediction:
        """The prediction that the last call of ``forward`` returned as tensors."""
        images, c2w, intrinsics, *extra = tensors
        losses, maps = self.names
        return Prediction(
            images,
            Cameras(c2w, intrinsics),
            dict(zip(losses, extra[: len(losses)], strict=True)),
            dict(zip(maps, extra[len(losses) :], strict=True)),
        )


def gather_with(trainee: Trainee) -> None:
    """Have ZeRO stage 3 gather the weights of composed modules when the whole model is called.

    ZeRO gathers the weights of a module when its ``forward`` is called. Modules with children have further methods
    that use weights of their own, and ZeRO does not notice these calls.
    """
    import deepspeed

    for module in trainee.modules():
        if any(True for _ in module.children()):
            for weight in module.parameters(recurse=False):
                deepspeed.zero.register_external_parameter(trainee, weight)


class Engine:
    """A model in training.

    Args:
        model: the model. Rank 0 sends its weights to the other processes.
        settings: optimizer, schedule, batch, clipping and the skip rule.
        config: from ``load_deepspeed_config``.
        process: this process.

    Attributes:
        steps: optimizer steps so far, including skipped ones.
        skipped: skipped steps so far.
        skipped_in_a_row: skipped steps since the last good one.
        last_applied: whether the last step changed the weights.
        last_learning_rate: learning rate of the last step.
        last_norm: global gradient norm of the last step before clipping, on the CPU; not finite if the gradient was
            not.
        why_skipped: the reason why the last skipped step was skipped, in a few words.
        compiled: whether the model's blocks are compiled.
        shares: the division of the views of a clip among processes.
        average: exponential moving average of the weights; None without ``ema_decay``.
    """

    def __init__(self, model: Model, *, settings: TrainSettings, config: dict[str, Any], process: Process) -> None:
        import deepspeed

        quieten_deepspeed()
        self.settings, self.process = settings, process
        self.stage = int(config["zero_optimization"]["stage"])
        self.steps = self.skipped = self.skipped_in_a_row = 0
        self.last_applied, self.last_learning_rate, self.last_norm = True, 0.0, torch.zeros(())
        self.why_skipped = ""
        pure_bf16 = bool(config.get("bf16", {}).get("enabled"))
        autocast = bool(config.get("torch_autocast", {}).get("enabled"))
        self._evaluation_dtype = torch.bfloat16 if pure_bf16 or autocast else None
        self.shares = shares_of(process)
        share_views(model, self.shares)
        trainee = Trainee(model, objective=settings.objective, autocast=torch.bfloat16 if pure_bf16 else None)

        reason = process.by_first(lambda: compiling(settings.compile, stage=self.stage, device=process.device))
        self.compiled = not reason
        if self.compiled:
            compile_blocks(model)
        if process.is_first and process.device.type == "cuda" and settings.compile:
            LOG.log(logging.WARNING if reason else logging.INFO, "blocks are %s", _compiled_or_not(reason))
        if self.stage == 3:
            gather_with(trainee)
        self.deepspeed, _, _, _ = deepspeed.initialize(
            model=trainee,
            optimizer=settings.optimizer.build(trainee),
            # A plain function, because LambdaLR saves the attributes of anything else in every checkpoint.
            lr_scheduler=lambda optimizer: LambdaLR(optimizer, lambda step: self._factor(step)),
            config=config,
            dist_init_required=False,
        )
        if self.stage != 3:
            share_weights(self.deepspeed.optimizer)
        self._skip_rule = SkipRule(
            self.deepspeed.optimizer,
            stage=self.stage,
            rule=settings.bad_steps,
            clip_norm=settings.clip_norm,
            process=process,
        )
        if settings.focal_detached_steps:
            hold_focal_lengths(model, held=lambda: self.steps < settings.focal_detached_steps)
        decay = settings.ema_decay
        self.average = WeightAverage(self.partition, decay=decay) if decay else None

    @cached_property
    def partition(self) -> ZeroPartition:
        """The float32 weights that this process owns."""
        return ZeroPartition(self.deepspeed, stage=self.stage)

    @property
    def num_weights(self) -> int:
        """Number of weights of the model, over all processes."""
        return sum(getattr(weight, "ds_numel", weight.numel()) for weight in self.model.parameters())

    @property
    def model(self) -> Model:
        """The model."""
        return self.deepspeed.module.model

    def __call__(self, views: Views) -> Prediction:
        """The model's prediction, in the configured precision, with a graph for gradients."""
        return self.deepspeed.module.prediction_of(self.deepspeed(views))

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of one micro-batch. Call it for a NaN as well, or the other processes wait for ever."""
        self.deepspeed.backward(loss)

    def step(self, *, loss: Tensor | None = None, objection: Objection = no_objection) -> None:
        """End a micro-batch. The last micro-batch of a step updates the weights or skips the step.

        Args:
            loss: mean over the step's micro-batches of this process; None if losses are not judged.
            objection: takes the mean loss over all processes, and returns the reason to skip the step; "" keeps it.
        """
        boundary = self.deepspeed.is_gradient_accumulation_boundary()
        if boundary:
            self.last_learning_rate = float(self.deepspeed.get_lr()[0])
            self._skip_rule.expect(step=self.steps, loss=loss, objection=objection)
        self.deepspeed.step()
        if not boundary:
            return
        self.steps += 1
        self.last_norm = self._skip_rule.norm
        self.last_applied = bool(self.deepspeed.was_step_applied())
        self.skipped += not self.last_applied
        if not self.last_applied:
            self.why_skipped = self._skip_rule.why
        if self.last_applied and self.average is not None:
            self.average.update()
        self.skipped_in_a_row = 0 if self.last_applied else self.skipped_in_a_row + 1

    def go_on_from(self, *, steps: int, skipped: int, skipped_in_a_row: int) -> None:
        """Set the counts after a checkpoint was loaded, and the learning rate that fits the length of this run."""
        self.steps, self.skipped, self.skipped_in_a_row = steps, skipped, skipped_in_a_row
        scheduler = self.deepspeed.lr_scheduler
        for group, base in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
            group["lr"] = base * self._factor(scheduler.last_epoch)

    def check_skips(self) -> None:
        """Stop a run that only skips steps.

        Raises:
            TrainingStopped: the last ``max_in_a_row`` steps were skipped.
        """
        if self.skipped_in_a_row >= self.settings.bad_steps.max_in_a_row:
            raise TrainingStopped(
                f"{self.skipped_in_a_row} steps in a row were skipped, the last because of: {self.why_skipped}; the "
                "weights are those of the last good step. Look at the data of these steps, lower the learning rate, "
                "lengthen its warm-up, or raise train.bad_steps.norm_factor or loss_factor"
            )

    def precision(self) -> AbstractContextManager[None]:
        """The precision of float32 matrix products in training, for a ``with`` block around the steps.

        TF32 is used in mixed precision only. Training in pure float32 is the exact reference.
        """
        return tf32_products(self.settings.tf32 and self._evaluation_dtype is not None)

    @contextmanager
    def evaluating(self) -> Iterator[Model]:
        """The model for calls outside of training: no gradients, no TF32, evaluation mode, autocast as in training.

        ZeRO stage 3 gathers all weights, those of the objective too. torch's random generators are restored
        afterwards, so evaluations change no training step.
        """
        import deepspeed

        model, device = self.model, self.process.device
        devices = [device] if device.type == "cuda" else []
        gathered: Any = nullcontext()
        if self.stage == 3:
            gathered = deepspeed.zero.GatheredParameters(list(self.deepspeed.module.parameters()))
        model.eval()
        try:
            precision = autocast_to(device.type, self._evaluation_dtype)
            plain = uncompiled(self.compiled)
            with gathered, torch.no_grad(), torch.random.fork_rng(devices=devices), precision, plain, exact_float32():
                yield model
        finally:
            model.train()

    def _factor(self, step: int) -> float:
        return self.settings.schedule.factor(step, self.settings.steps)


def _compiled_or_not(reason: str) -> str:
    return f"not compiled: train.compile {reason}" if reason else "compiled: the first step takes a minute or more"


def quieten_deepspeed() -> None:
    """Keep DeepSpeed's warnings, and drop its progress lines, its messages about skipped steps and torch's hints for
    DeepSpeed's authors.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
    logger = logging.getLogger("DeepSpeed")
    logger.setLevel(logging.WARNING)
    if not any(isinstance(entry, _NotOverflow) for entry in logger.filters):
        logger.addFilter(_NotOverflow())


class _NotOverflow(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "OVERFLOW" not in record.getMessage()
