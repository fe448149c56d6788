"""Order in which ``auto`` tries attention backends for each kind of call.

The order is a fixed table. A measurement at run time could give different results on different ranks, machines and
runs, and a resumed run would not continue exactly. ``openrayzer benchmark-attention`` checks the table on a GPU.
"""

from dataclasses import dataclass

import torch

from openrayzer.components.attention.proven import HALF, Kind

NEWEST = (99, 0)


@dataclass(frozen=True)
class Preference:
    """Order of backends for a range of devices.

    Attributes:
        capabilities: lowest and highest CUDA compute capability.
        dtypes: dtypes of the tensors.
        order: names of backends, the best first. ``sdpa`` comes after them; it runs every call.
        why: reasons for this order, with sources.
    """

    capabilities: tuple[tuple[int, int], tuple[int, int]]
    dtypes: tuple[torch.dtype, ...]
    order: tuple[str, ...]
    why: str


TABLE = (
    Preference(
        ((9, 0), (10, 9)),
        HALF,
        ("cudnn", "flash", "xformers", "efficient"),
        "Hopper and data-centre Blackwell. PyTorch's own choice here is cuDNN. In training it is 1.7 to 2.3 times as "
        "fast as FlashAttention 2 on an H100 (github.com/huggingface/transformers/pull/48163); on a B200 it is faster "
        "than FlashAttention 4 (github.com/sgl-project/sglang/pull/33655). xformers calls PyTorch's FlashAttention 2 "
        "with six times the host time. cuDNN can give NaN gradients with a mask and scores of -89 "
        "(github.com/pytorch/pytorch/issues/196678). These calls have no mask, and normalised queries and keys of "
        "width e keep scores within sqrt(e) times the product of their gains.",
    ),
    Preference(
        ((8, 0), NEWEST),
        HALF,
        ("flash", "xformers", "efficient"),
        "Ampere, Ada and workstation Blackwell. cuDNN ran at 0.82 to 1.00 times the speed of flash on an A100, A10G, "
        "L40S and RTX PRO 6000 (github.com/huggingface/transformers/pull/48163), and at 1.04 to 1.23 times in another "
        "measurement on 8.6 and 8.9 (github.com/pytorch/pytorch/pull/192799). This is no clear gain, and cuDNN plans "
        "each new shape first.",
    ),
    Preference(
        ((0, 0), NEWEST),
        (*HALF, torch.float32),
        ("efficient", "xformers"),
        "Float32, and GPUs before Ampere, which have no flash kernel. Both backends run the same kernel, and a call "
        "through PyTorch needs less host time.",
    ),
)

OTHER_DEVICES = ("xformers", "reference")
"""Order for other devices such as CPUs. xformers cannot run there and gives the reason in the log."""

NAMES = frozenset({*(name for row in TABLE for name in row.order), *OTHER_DEVICES, "sdpa"})
"""Names of all backends that ``auto`` may choose."""


def preferred(kind: Kind) -> tuple[str, ...]:
    """Names of backends for a kind of call, the best first. The last one, ``sdpa``, runs every call."""
    if kind.device.type != "cuda":
        return (*OTHER_DEVICES, "sdpa")
    for row in TABLE:
        lowest, highest = row.capabilities
        if lowest <= kind.capability <= highest and kind.dtype in row.dtypes:
            return (*row.order, "sdpa")
    return ("sdpa",)
