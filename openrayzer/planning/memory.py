"""Bytes on each rank and in a checkpoint, computed from the sizes of the weights and DeepSpeed's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pydoc import locate
from typing import Any

from torch import nn

from openrayzer.planning.optimizer_state import ADAM

FLOAT = 4
_BUCKET = 500_000_000
_LIVE = 1_000_000_000
"""DeepSpeed's defaults for ``reduce_bucket_size`` and ``stage3_max_live_parameters``, in numbers."""
_LOWER = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers with gradients that DeepSpeed sends in bfloat16 under ``torch_autocast``. Source: its torch_autocast.py."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each rank, without activations.

    Attributes:
        weights: weights of the model; under ZeRO-3 this rank's share and the weights gathered from other ranks.
        gradients: gradients, which stay until the optimizer step.
        optimizer: the optimizer's state, float32 copies of the weights, and their exponential moving average.
        buffers: buckets in which gradients travel between ranks.
    """

    weights: float
    gradients: float
    optimizer: float
    buffers: float

    @property
    def total(self) -> float:
        """Sum of the four parts."""
        return self.weights + self.gradients + self.optimizer + self.buffers


def memory(
    model: nn.Module,
    deepspeed: Mapping[str, Any],
    *,
    ranks: int,
    stage: int | None = None,
    averaged: bool = False,
    state: float = ADAM,
) -> Memory:
    """Memory of one rank without activations.

    - Weights and gradients take 4 bytes each, or 2 under ``bf16``.
    - The optimizer keeps its state for each trainable weight. It also keeps a copy of 4 bytes under ``bf16``, at
      stage 3 and when it is offloaded.
    - ZeRO divides the optimizer among the ranks from stage 1 on, the gradients from stage 2 on, and the weights at
      stage 3, where a rank gathers up to ``stage3_max_live_parameters`` weights at a time.
    - Gradients pass through buckets of ``reduce_bucket_size``, even with one rank: see ``bucket_bytes``.

    Args:
        model: on any device, ``meta`` included.
        deepspeed: DeepSpeed's configuration.
        ranks: number of processes.
        stage: ZeRO stage; None takes the stage of the configuration.
        averaged: whether training keeps an exponential moving average of the weights, divided like the optimizer.
        state: bytes of optimizer state for each trainable weight, from ``state_bytes``.

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
        optimizer=(state + copy + FLOAT * averaged) * trainable / (ranks if stage >= 1 else 1),
        buffers=float(bucket_bytes(model, deepspeed, stage=stage)),
    )


def bucket_bytes(model: nn.Module, deepspeed: Mapping[str, Any], *, stage: int) -> int:
    """Bytes of the buckets that a rank allocates to send gradients, no matter how full the model fills them.

    DeepSpeed makes one bucket for each dtype in which it sends gradients. Under ``torch_autocast`` these are bfloat16
    for linear layers and convolutions, and float32 for other weights. At stages 1 and 2 a number in a bucket
    takes as many bytes as a weight, and ``overlap_comm`` doubles the bucket. At stage 3 a number takes the bytes of its
    dtype. Without ``contiguous_gradients`` there are no buckets, except at stages 1 and 2 with an offloaded optimizer.

    Source: DeepSpeed 0.19.8, ``setup_buckets`` of zero/stage_1_and_2.py and the end of ``__init__`` of zero/stage3.py.
    """
    zero = deepspeed.get("zero_optimization", {})
    offloaded = (zero.get("offload_optimizer") or {}).get("device", "none") != "none"
    if not zero.get("contiguous_gradients", True) and not (offloaded and stage < 3):
        return 0
    width = 2 if deepspeed.get("bf16", {}).get("enabled", False) else FLOAT
    widths = set(_widths(model, deepspeed).values())
    numbers = int(zero.get("reduce_bucket_size", _BUCKET))
    if stage >= 3:
        return numbers * sum(widths)
    return numbers * width * len(widths) * (2 if zero.get("overlap_comm", False) else 1)


def sent_bytes(model: nn.Module, deepspeed: Mapping[str, Any]) -> int:
    """Bytes of all gradients as DeepSpeed sends them; see ``bucket_bytes``."""
    widths = _widths(model, deepspeed)
    return sum(width * weight.numel() for weight, width in widths.items())


def _widths(model: nn.Module, deepspeed: Mapping[str, Any]) -> dict[nn.Parameter, int]:
    """The width in bytes at which the gradient of each trainable weight is sent."""
    usual = 2 if deepspeed.get("bf16", {}).get("enabled", False) else FLOAT
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    autocast = deepspeed.get("torch_autocast", {})
    if not autocast.get("enabled", False):
        return dict.fromkeys(trainable, usual)
    named = autocast.get("lower_precision_safe_modules")
    lower = _LOWER if named is None else tuple(locate(name) for name in named)
    inside = {weight for module in model.modules() if type(module) in lower for weight in module.parameters(False)}
    return {weight: 2 if weight in inside else FLOAT for weight in trainable}


def checkpoint_bytes(
    model: nn.Module,
    deepspeed: Mapping[str, Any],
    *,
    stage: int | None = None,
    averaged: bool = False,
    state: float = ADAM,
) -> int:
    """Size of one checkpoint on disk, over all ranks, without the few 10 kB that a rank adds.

    A checkpoint holds the weights as the model has them, except under ZeRO-3, and for each trainable weight the
    optimizer's state, a float32 copy of 4 bytes, and 4 bytes of the exponential moving average. The arguments have the
    same meaning as in ``memory``.
    """
    zero = deepspeed.get("zero_optimization", {})
    stage = zero.get("stage", 0) if stage is None else stage
    width = 2 if deepspeed.get("bf16", {}).get("enabled", False) else FLOAT
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    own = width * sum(weight.numel() for weight in model.parameters() if stage < 3 or not weight.requires_grad)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    return own + buffers + round((state + FLOAT + FLOAT * averaged) * trainable)
