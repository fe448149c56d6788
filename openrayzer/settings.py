"""The sections of an experiment file as frozen dataclasses, with the default of every key.

A field annotated with an interface is a component, written ``{"type": "<registered name>", ...}`` in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from openrayzer.interfaces import (
    Augmentation,
    Dataset,
    InputError,
    Logger,
    Loss,
    Model,
    Objective,
    Optimizer,
    Schedule,
    ViewSampler,
    concerning,
    registered_name,
)

EVALUATED = ("psnr", "psnr_nearest_context", "psnr_mean_context", "psnr_exchanged_cameras")
"""Numbers of the evaluation while training. Clips with a single target have no exchanged cameras."""
RENAMED = {"psnr_shuffled_cameras": "psnr_exchanged_cameras"}
"""Old names of these numbers, in the experiments, logs and checkpoints of older runs, and their names today."""


def current_names(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of an evaluation with the names of ``EVALUATED``."""
    return {RENAMED.get(name, name): value for name, value in record.items()}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of clips.

    Args:
        dataset: the scenes.
        weight: how often clips come from this source, relative to the weights of the other sources; above 0.
    """

    dataset: Dataset
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"weight must be above 0, got {self.weight}")


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """A cache of decoded training frames, shared by all processes of a machine.

    It saves time where decoding is slow: videos, images with lens distortion, PNG files. The cache fills up to its size
    and then stays as it is. Frames whose source file has changed are read again. The cache changes no pixel, and its
    folder can be deleted at any time.

    Args:
        folder: on a fast disk, or in shared memory such as /dev/shm/frames.
        gigabytes: largest size, in 1e9 bytes; a frame of 640 x 360 takes 0.0007. 5 % of the disk always stay free.
    """

    folder: Path
    gigabytes: float

    def __post_init__(self) -> None:
        if not 0 < self.gigabytes < 1e6:
            raise InputError(f"gigabytes must be above 0 and below 1e6, got {self.gigabytes}")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The clips and the size of their images.

    Args:
        train: sources of training clips, mixed by weight.
        test: sources of held-out clips for the evaluation while training; may be empty.
        view_sampler: chooses the frames of a training clip.
        augmentations: change training clips, one after the other. Held-out clips are not augmented.
        image_size: height and width in pixels. Images are resized to cover this size, then cropped at the centre.
        normalise_poses: move and scale true cameras so that the mean camera is the origin and no coordinate
            exceeds 1 / scene_scale. It has no effect on sources without poses.
        scene_scale: see ``normalise_poses``.
        workers: loading processes per rank; 0 loads in the training process.
        prefetch: batches that each worker prepares ahead.
        cache: keeps decoded training frames; None decodes them each time.
        scaled_decoding: decode JPEG files of training clips at 1/2, 1/4 or 1/8 of their size if the result has exactly
            the size that ``image_size`` needs, or is at least twice as large. This is faster and gives nearly the same
            pixels. Held-out clips are always decoded at full size. It cannot be combined with ``cache`` or with
            augmentations that cut stored images.
    """

    train: tuple[Source, ...]
    view_sampler: ViewSampler
    image_size: tuple[int, int]
    test: tuple[Source, ...] = ()
    augmentations: tuple[Augmentation, ...] = ()
    normalise_poses: bool = True
    scene_scale: float = 1.35
    workers: int = 2
    prefetch: int = 4
    cache: CacheSettings | None = None
    scaled_decoding: bool = False

    def __post_init__(self) -> None:
        if not self.train:
            raise InputError("train must name at least one source")
        if min(self.image_size) < 1:
            raise InputError(f"image_size must be (height, width) in pixels, got {self.image_size}")
        if self.workers < 0 or self.prefetch < 1 or not self.scene_scale > 0:
            raise InputError("workers must be 0 or more, prefetch 1 or more, scene_scale above 0")
        if self.scaled_decoding:
            self._check_scaled_decoding()

    def _check_scaled_decoding(self) -> None:
        if self.cache is not None:
            raise InputError("scaled_decoding cannot be combined with cache, which keeps images at their full size")
        cutting = [type(one).__name__ for one in self.augmentations if type(one).cut is not Augmentation.cut]
        if cutting:
            raise InputError(
                f"scaled_decoding cannot be combined with {', '.join(cutting)}, which cuts images at their full size"
            )


@dataclass(frozen=True, kw_only=True)
class LossTerm:
    """One term of the training loss.

    Args:
        loss: the loss function.
        weight: final factor of this term; 0 or more.
        start_step: first optimizer step, counted from 0, in which the term counts.
        ramp_steps: steps over which the factor grows linearly from 0 to ``weight``; 0 starts with ``weight``.
    """

    loss: Loss
    weight: float = 1.0
    start_step: int = 0
    ramp_steps: int = 0

    def __post_init__(self) -> None:
        if self.weight < 0 or self.start_step < 0 or self.ramp_steps < 0:
            raise InputError("weight, start_step and ramp_steps must be 0 or more")

    def weight_at(self, step: int) -> float:
        """Factor of this term at an optimizer step, counted from 0."""
        if step < self.start_step:
            return 0.0
        return self.weight * min(1.0, (step - self.start_step + 1) / max(1, self.ramp_steps))


@dataclass(frozen=True, kw_only=True)
class BadSteps:
    """Rules for skipping an optimizer step. All ranks take the same decision.

    A step whose gradient is not finite is always skipped.

    Args:
        norm_factor: skip a step if its gradient norm exceeds this many times ``clip_norm``; 0 turns this rule off.
        loss_factor: skip a step if its loss exceeds this many times the median of the 32 steps before; 0 turns this
            rule off.
        grace_steps: number of first steps in which a large norm is clipped, not skipped. The rule for the loss begins
            after as many steps, at most 32.
        max_in_a_row: training stops with exit code 3 after this many skipped steps in a row.
        dump: which bad steps to write to ``bad_steps/`` for ``openrayzer replay``: "never" writes none, "stop" the
            step at which training stops, "first" also the first bad step of the run.
    """

    norm_factor: float = 5.0
    loss_factor: float = 0.0
    grace_steps: int = 100
    max_in_a_row: int = 25
    dump: Literal["never", "stop", "first"] = "stop"

    def __post_init__(self) -> None:
        if self.norm_factor < 0 or self.grace_steps < 0 or self.max_in_a_row < 1:
            raise InputError("norm_factor and grace_steps must be 0 or more, max_in_a_row 1 or more")
        if self.loss_factor != 0 and not self.loss_factor > 1:
            raise InputError(f"loss_factor must be above 1, or 0 for never, got {self.loss_factor}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The training run. All counts are optimizer steps.

    Args:
        steps: length of the run.
        batch_size: scenes per optimizer step, over all ranks and accumulated micro-batches.
        accumulation: micro-batches per optimizer step.
        sequence_parallel: number of ranks that share the views of each clip; a divisor of the number of ranks. Each of
            them keeps the activations of its views only, so that longer clips and larger images fit. The number must
            also divide the attention heads, the latents of a scene, and the views of a clip. It changes no loss and no
            gradient, up to rounding.
        optimizer: updates the weights.
        schedule: factor of the learning rate over the run.
        objective: how a step makes the predictions that ``loss`` compares with the true views; None calls the model.
        clip_norm: larger gradients are scaled down to this global 2-norm.
        bad_steps: rules for skipping a step.
        seed: seed of the random weights, the data order and the view choice.
        log_every: steps between lines of metrics.jsonl.
        sample_every: steps between sample pictures; 0 draws none.
        evaluate_every: steps between evaluations; 0 evaluates at the end only.
        checkpoint_every: steps between checkpoints; 0 writes one at the end only.
        keep_checkpoints: number of newest checkpoints that stay on disk.
        best_metric: metric that selects the best checkpoint, e.g. "psnr"; empty selects none. A checkpoint is saved
            whenever the metric improves, and the best one is never deleted. With ``ema_decay`` the metric is that of
            the averaged weights.
        best_mode: whether the largest ("max") or the smallest ("min") value is best.
        ema_decay: decay of the exponential moving average of the weights; 0 keeps no average. The average is evaluated
            beside the weights and saved in checkpoints. Loading and exporting a run use the average.
        focal_detached_steps: number of first steps in which no gradient reaches the focal lengths that camera heads
            predict. It keeps them from diverging before the poses are meaningful.
        compile: whether ``torch.compile`` compiles the model's repeated blocks and the losses. The first step takes a
            minute, later steps are faster. Losses differ in the last digits. Evaluations run without compiling. "auto"
            compiles on a GPU if a short trial is faster compiled, and never on a CPU.
        tf32: whether a GPU may use TF32 in mixed precision. It then rounds the factors of the remaining float32 matrix
            products, e.g. in camera heads, to 10 bits, and computes these products several times as fast. Float32 stays
            exact in convolutions, geometry, losses, metrics, evaluation, and in training without mixed precision. It
            has no effect on a CPU.
        statistics_every: steps between lines of statistics.jsonl, with weights, gradients and activations of every
            module; 0 writes none.
        watchdog_minutes: if a step takes longer, the run ends with exit code 3 and writes the stacks of all processes.
            Loading data may take 4 times as long, a checkpoint or the first step 6 times, an evaluation 12 times. 0
            turns the watchdog off.
        initial_weights: weights with which a new run begins: a weight folder, a run folder (its newest good
            checkpoint), a checkpoint, or a .safetensors file. It has no effect once the run has a checkpoint.
    """

    steps: int
    batch_size: int
    optimizer: Optimizer
    schedule: Schedule
    accumulation: int = 1
    sequence_parallel: int = 1
    objective: Objective | None = None
    clip_norm: float = 1.0
    bad_steps: BadSteps = field(default_factory=BadSteps)
    seed: int = 0
    log_every: int = 10
    sample_every: int = 1000
    evaluate_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    best_metric: str = ""
    best_mode: Literal["max", "min"] = "max"
    ema_decay: float = 0.0
    focal_detached_steps: int = 0
    compile: bool | Literal["auto"] = "auto"
    tf32: bool = True
    statistics_every: int = 0
    watchdog_minutes: float = 10.0
    initial_weights: Path | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "sequence_parallel", "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("sample_every", "evaluate_every", "checkpoint_every", "statistics_every", "focal_detached_steps"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.best_metric and self.best_metric not in (*EVALUATED, *RENAMED):
            known = ", ".join(EVALUATED)
            raise InputError(f"best_metric {self.best_metric!r} is not measured; the evaluation gives: {known}")
        if not self.clip_norm > 0:
            raise InputError(f"clip_norm must be above 0, got {self.clip_norm}")
        if not 0 <= self.watchdog_minutes < 1e6:
            raise InputError(f"watchdog_minutes must be 0 or more, got {self.watchdog_minutes}")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """The evaluation of held-out clips while training.

    Args:
        view_sampler: chooses the views of a held-out clip; the choice depends only on ``seed`` and the scene's name.
        max_scenes: largest number of scenes, in order; 0 takes all.
        batch_size: scenes per batch and rank.
        seed: seed of the view choice.
    """

    view_sampler: ViewSampler
    max_scenes: int = 0
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_scenes < 0 or self.batch_size < 1:
            raise InputError("max_scenes must be 0 or more, batch_size 1 or more")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole experiment file: the model, its data and its training.

    Args:
        model: the model.
        data: the clips.
        loss: the terms of the training loss.
        train: the training run.
        evaluation: the evaluation while training.
        logging: further loggers; metrics.jsonl and train.log are always written.
        deepspeed: a ds_configs/ file: ZeRO stage, precision, buckets, offload.

    Raises:
        InputError: the sections contradict each other.
    """

    model: Model
    data: DataSettings
    loss: tuple[LossTerm, ...]
    train: TrainSettings
    evaluation: EvaluationSettings
    logging: tuple[Logger, ...] = ()
    deepspeed: str = "ds_configs/zero2.json"

    def __post_init__(self) -> None:
        if not self.loss:
            raise InputError("loss must name at least one term")
        if self.train.best_metric and not self.data.test:
            raise InputError("train.best_metric needs held-out clips to measure: give data.test")
        with concerning("data.image_size"):
            self.model.check_size(self.data.image_size)
        self._check_cameras()
        if self.train.sequence_parallel > 1:
            with concerning("train.sequence_parallel"):
                self.check_sharing(self.train.sequence_parallel)
        if self.train.objective is not None:
            with concerning("train.objective"):
                self.train.objective.check_model(self.model)

    def check_sharing(self, processes: int) -> None:
        """Refuse a number of processes that share each clip if the model or the objective cannot divide views so.

        Raises:
            InputError: the message gives what would work.
        """
        self.model.check_sharing(processes)
        objective = self.train.objective
        if objective is not None and not objective.shares_views:
            raise InputError(
                f"objective {type(objective).__name__} reads the tokens of all views, which cannot be divided "
                "among processes; take sequence_parallel 1 or the objective 'photometric'"
            )

    def _check_cameras(self) -> None:
        """Refuse sources without cameras if the model needs them."""
        model = self.model
        if not (model.posed or model.needs_intrinsics):
            return
        what = "camera poses" if model.posed else "intrinsics"
        wrong = [
            f"data.{split}[{place}]: {registered_name(source.dataset)!r} has no cameras, and the model "
            f"{registered_name(model)!r} needs {what}"
            for split, sources in (("train", self.data.train), ("test", self.data.test))
            for place, source in enumerate(sources)
            if not source.dataset.posed
        ]
        if wrong:
            raise InputError("\n".join(wrong))
