"""Which attention backends ``auto`` tries for a kind of call, the best first.

The table is fixed. A measurement while a program runs could decide differently on another rank, machine or run, and a
resumed run would then not continue as before. ``tools/benchmark_attention.py`` says where the table is wrong on a GPU.
"""

from dataclasses import dataclass

import torch

from openrayzer.components.attention.proven import HALF, Kind

NEWEST = (99, 0)


@dataclass(frozen=True)
class Row:
    """Backends for a range of devices.

    Attributes:
        capabilities: lowest and highest CUDA compute capability.
        dtypes: of the tensors.
        order: names of backends, the best first; ``sdpa``, which runs everything, comes after them.
        why: the reasons, with their sources.
    """

    capabilities: tuple[tuple[int, int], tuple[int, int]]
    dtypes: tuple[torch.dtype, ...]
    order: tuple[str, ...]
    why: str


TABLE = (
    Row(
        ((9, 0), (10, 9)),
        HALF,
        ("cudnn", "flash", "xformers", "efficient"),
        "Hopper and data-centre Blackwell. PyTorch itself takes cuDNN here. In training it is 1.7 to 2.3 times as "
        "fast as FlashAttention 2 on an H100 (github.com/huggingface/transformers/pull/48163); on a B200 it is faster "
        "than FlashAttention 4 (github.com/sgl-project/sglang/pull/33655). xformers calls PyTorch's FlashAttention 2, "
        "which takes the host six times as long. cuDNN is known to give NaN gradients with a mask and scores of -89 "
        "(github.com/pytorch/pytorch/issues/196678). There is no mask here, and normalised queries and keys of width e "
        "keep scores within sqrt(e) times the product of their gains.",
    ),
    Row(
        ((8, 0), NEWEST),
        HALF,
        ("flash", "xformers", "efficient"),
        "Ampere, Ada and workstation Blackwell. cuDNN had 0.82 to 1.00 of flash's speed on an A100, A10G, L40S and "
        "RTX PRO 6000 (github.com/huggingface/transformers/pull/48163), and 1.04 to 1.23 in another measurement of 8.6 "
        "and 8.9 (github.com/pytorch/pytorch/pull/192799): no clear gain for the cost of a plan at every new shape.",
    ),
    Row(
        ((0, 0), NEWEST),
        (*HALF, torch.float32),
        ("efficient", "xformers"),
        "Float32, and GPUs before Ampere: no flash kernel takes these. Both backends run the same kernel, and a call "
        "through PyTorch takes the host less time.",
    ),
)

OTHER_DEVICES = ("xformers", "reference")
"""For CPUs, for example. xformers refuses there and says why."""

NAMES = frozenset({*(name for row in TABLE for name in row.order), *OTHER_DEVICES, "sdpa"})
"""Names of all backends that ``auto`` may choose."""


def preferred(kind: Kind) -> tuple[str, ...]:
    """Names of backends, the best first; the last runs every call."""
    if kind.device.type != "cuda":
        return (*OTHER_DEVICES, "sdpa")
    for row in TABLE:
        lowest, highest = row.capabilities
        if lowest <= kind.capability <= highest and kind.dtype in row.dtypes:
            return (*row.order, "sdpa")
    return ("sdpa",)
