"""Attention backends "flash", "efficient" and "cudnn": PyTorch's fused kernels for CUDA."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.components.attention.fused import FusedAttention, aten
from openrayzer.components.attention.proven import HALF, WIDTH_STEPS, Kind, ProvenAttention
from openrayzer.interfaces import ATTENTION_BACKENDS


class KernelAttention(ProvenAttention, FusedAttention):
    """Base of backends that always run one kernel of PyTorch; ``sdpa`` chooses a kernel at each call.

    PyTorch's switches apply, for example ``torch.backends.cuda.enable_cudnn_sdp(False)``.
    """

    def compute(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        return FusedAttention.attend_with_lse(self, query, key, value)[0]


@ATTENTION_BACKENDS.register("flash")
class FlashAttention(KernelAttention):
    """PyTorch's FlashAttention 2, for half precision on compute capability 8.0 and later.

    Source: Dao 2023, "FlashAttention-2".
    """

    name = "flash"

    def rule(self, kind: Kind) -> str:
        if kind.head_width > 256:
            return f"heads may be at most 256 wide, got {kind.head_width}"
        return _rule(kind, (8, 0), HALF) or _switch(torch.backends.cuda.flash_sdp_enabled(), "enable_flash_sdp")

    def kernel(self, query: Float[Tensor, "b n heads e"]) -> str:
        return "flash"


@ATTENTION_BACKENDS.register("efficient")
class EfficientAttention(KernelAttention):
    """PyTorch's memory-efficient kernel, which comes from xformers, for float16, bfloat16 and float32 on every GPU.

    Source: Rabe and Staats 2021, "Self-attention Does Not Need O(n^2) Memory".
    """

    name = "efficient"

    def rule(self, kind: Kind) -> str:
        on = torch.backends.cuda.mem_efficient_sdp_enabled()
        return _rule(kind, (5, 0), (*HALF, torch.float32)) or _switch(on, "enable_mem_efficient_sdp")

    def kernel(self, query: Float[Tensor, "b n heads e"]) -> str:
        return "efficient"


@ATTENTION_BACKENDS.register("cudnn")
class CudnnAttention(KernelAttention):
    """NVIDIA's cuDNN kernel, for half precision. For each new shape it first makes a plan, in up to a second.

    Calls that need the log-sum-exp run PyTorch's other kernels instead.
    """

    name = "cudnn"

    def rule(self, kind: Kind) -> str:
        if kind.one_query:  # github.com/NVIDIA/cudnn-frontend/issues/1072, github.com/pytorch/pytorch/issues/138529
            return "with a single query its gradients are known to fail or to be NaN"
        return _rule(kind, (8, 0), HALF) or _switch(torch.backends.cuda.cudnn_sdp_enabled(), "enable_cudnn_sdp")

    def compute(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> Float[Tensor, "b n heads e"]:
        heads = [x.transpose(1, 2) for x in (query, key, value)]
        gradients = torch.is_grad_enabled() and any(x.requires_grad for x in heads)
        out, *_ = aten._scaled_dot_product_cudnn_attention(*heads, None, compute_log_sumexp=gradients)
        return out.transpose(1, 2)


def _rule(kind: Kind, capability: tuple[int, int], dtypes: tuple[torch.dtype, ...]) -> str:
    if kind.head_width % (step := WIDTH_STEPS.get(kind.dtype, 8)):
        return f"the head width must be a multiple of {step}, got {kind.head_width}"
    if kind.dtype not in dtypes:
        return f"it takes {', '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)}, got {kind.dtype}"
    if kind.capability < capability:
        needed, given = (".".join(map(str, numbers)) for numbers in (capability, kind.capability))
        return f"it needs compute capability {needed}, this device has {given}"
    return ""


def _switch(on: bool, name: str) -> str:
    return "" if on else f"torch.backends.cuda.{name}(False) is in effect"
