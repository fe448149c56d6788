"""Bytes on each rank and in a checkpoint, from the sizes of the weights and DeepSpeed's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pydoc import locate
from typing import Any

from torch import nn

FLOAT = 4
MEANS = 2 * FLOAT
"""Per trainable weight: two float32 means (Adam)."""
_BUCKET = 500_000_000
_LIVE = 1_000_000_000
"""Numbers of weights that DeepSpeed takes where its file says nothing."""
_LOWER = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Under ``torch_autocast`` gradients of these layers are sent in bfloat16. Source: DeepSpeed's torch_autocast.py."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each rank, without activations.

    Attributes:
        weights: of the model, and under ZeRO-3 those of others that are gathered at the same time.
        gradients: kept until the step.
        optimizer: float32 means and copies, and the moving average of the weights, if there is one.
        buffers: gradients on their way between ranks.
    """

    weights: float
    gradients: float
    optimizer: float
    buffers: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.buffers


def memory(
    model: nn.Module, deepspeed: Mapping[str, Any], *, ranks: int, stage: int | None = None, averaged: bool = False
) -> Memory:
    """What a rank holds beside activations.

    Weights and gradients take 4 bytes each, 2 under ``bf16``; the optimizer keeps two 4-byte means of the trainable
    weights (Adam), and a 4-byte copy under ``bf16``, at stage 3 and where it is offloaded. ZeRO divides the optimizer
    by the ranks from stage 1 on, the gradients from stage 2 on, the weights at stage 3, which gathers up to
    ``stage3_max_live_parameters`` of them again. Gradients go through buckets of ``reduce_bucket_size``, also where
    there is one rank: see ``bucket_bytes``.

    Args:
        model: anywhere, ``meta`` too.
        deepspeed: the configuration.
        ranks: processes.
        stage: of ZeRO; None takes that of the configuration.
        averaged: whether a moving average of the weights is kept, divided as the optimizer is.

    Source: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", section 3;
    the buffers from DeepSpeed's documentation of its configuration.
    """
    zero = deepspeed.get("zero_optimization", {})
    stage = zero.get("stage", 0) if stage is None else stage
    width = 2 if deepspeed.get("bf16", {}).get("enabled", False) else FLOAT
    weights = sum(weight.numel() for weight in model.parameters())
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    gathered = min(weights, zero.get("stage3_max_live_parameters", _LIVE)) if stage >= 3 and ranks > 1 else 0
    offloaded = (zero.get("offload_optimizer") or {}).get("device", "none") != "none"
    copy = FLOAT if width < FLOAT or stage == 3 or offloaded else 0
    return Memory(
        weights=float(width * (weights / ranks + gathered if stage >= 3 else weights)),
        gradients=width * trainable / (ranks if stage >= 2 else 1),
        optimizer=(MEANS + copy + FLOAT * averaged) * trainable / (ranks if stage >= 1 else 1),
        buffers=float(bucket_bytes(model, deepspeed, stage=stage)),
    )


def bucket_bytes(model: nn.Module, deepspeed: Mapping[str, Any], *, stage: int) -> int:
    """Bytes of the buckets that a rank allocates to send gradients, whether the model fills them or not.

    There is one bucket for each dtype in which gradients are sent: under ``torch_autocast`` bfloat16 for linear layers
    and convolutions, and float32 for other weights. At stages 1 and 2 its numbers are as wide as the weights, and
    ``overlap_comm`` doubles it; at stage 3 they are as wide as that dtype. Without ``contiguous_gradients`` there is
    none, except at stages 1 and 2 with an offloaded optimizer.

    Source: DeepSpeed 0.19.8, ``setup_buckets`` of zero/stage_1_and_2.py and the end of ``__init__`` of zero/stage3.py.
    """
    zero = deepspeed.get("zero_optimization", {})
    offloaded = (zero.get("offload_optimizer") or {}).get("device", "none") != "none"
    if not zero.get("contiguous_gradients", True) and not (offloaded and stage < 3):
        return 0
    width = 2 if deepspeed.get("bf16", {}).get("enabled", False) else FLOAT
    travelling = _widths_on_the_way(model, deepspeed, width=width)
    numbers = int(zero.get("reduce_bucket_size", _BUCKET))
    if stage >= 3:
        return numbers * sum(travelling)
    return numbers * width * len(travelling) * (2 if zero.get("overlap_comm", False) else 1)


def _widths_on_the_way(model: nn.Module, deepspeed: Mapping[str, Any], *, width: int) -> set[int]:
    """The different numbers of bytes that a number of a gradient takes when it is sent."""
    autocast = deepspeed.get("torch_autocast", {})
    if not autocast.get("enabled", False):
        return {width}
    named = autocast.get("lower_precision_safe_modules")
    lower = _LOWER if named is None else tuple(locate(name) for name in named)
    inside = {weight for module in model.modules() if type(module) in lower for weight in module.parameters(False)}
    return {2 if weight in inside else FLOAT for weight in model.parameters() if weight.requires_grad}


def checkpoint_bytes(
    model: nn.Module, deepspeed: Mapping[str, Any], *, stage: int | None = None, averaged: bool = False
) -> int:
    """Size of one checkpoint on disk, over all ranks; what is not a number of the model is a few 10 kB a rank.

    The optimizer's 12 bytes for each trainable weight, 4 for each of a moving average, and the weights as the model
    holds them, which ZeRO-3 leaves out: the optimizer has them.
    """
    zero = deepspeed.get("zero_optimization", {})
    stage = zero.get("stage", 0) if stage is None else stage
    width = 2 if deepspeed.get("bf16", {}).get("enabled", False) else FLOAT
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    own = width * sum(weight.numel() for weight in model.parameters() if stage < 3 or not weight.requires_grad)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    return own + buffers + (MEANS + FLOAT + FLOAT * averaged) * trainable
