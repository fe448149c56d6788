"""Calls of PyTorch's fused attention kernels that return the log-sum-exp of the scores."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import AttentionBackend

aten = torch.ops.aten

_LSE_ALIGNED = 32
"""The memory-efficient kernel pads its log-sum-exp to a multiple of this length."""


class FusedAttention(AttentionBackend):
    """Base of backends that run PyTorch's kernels: flash in half precision, memory-efficient in float32 on CUDA.

    If no kernel fits a call with log-sum-exp, plain PyTorch operations compute it.
    """

    def kernel(self, query: Float[Tensor, "b n heads e"]) -> str:
        """The kernel for these queries: "flash", "efficient" or "cpu"; empty if no kernel fits."""
        half = query.dtype in (torch.float16, torch.bfloat16)
        if query.device.type == "cpu":
            return "cpu" if half or query.dtype in (torch.float32, torch.float64) else ""
        if query.device.type not in ("cuda", "meta") or query.shape[-1] % 8 or query.shape[-1] > 256:
            return ""
        if query.device.type == "meta" or (half and torch.cuda.get_device_capability(query.device) >= (8, 0)):
            return "flash"
        return "efficient" if half or query.dtype == torch.float32 else ""

    def attend_with_lse(
        self,
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b heads n"]]:
        heads = _heads_first(query, key, value)
        match self.kernel(query):
            case "flash":
                out, lse, *_ = aten._scaled_dot_product_flash_attention(*heads)
            case "efficient":
                out, lse, *_ = aten._scaled_dot_product_efficient_attention(*heads, None, compute_log_sumexp=True)
                lse = lse[..., : query.shape[1]]
            case "cpu":
                out, lse = aten._scaled_dot_product_flash_attention_for_cpu(*heads)
            case _:
                return super().attend_with_lse(query, key, value)
        return out.transpose(1, 2), lse

    def attend_backward(
        self,
        gradient: Float[Tensor, "b n heads e"],
        query: Float[Tensor, "b n heads e"],
        key: Float[Tensor, "b m heads e"],
        value: Float[Tensor, "b m heads e"],
        out: Float[Tensor, "b n heads e"],
        lse: Float[Tensor, "b heads n"],
    ) -> tuple[Float[Tensor, "b n heads e"], Float[Tensor, "b m heads e"], Float[Tensor, "b m heads e"]]:
        heads = _heads_first(gradient, query, key, value, out)
        lse = lse.contiguous()
        match self.kernel(query):
            case "flash":
                lengths = query.shape[1], key.shape[1]
                random = torch.empty(2, dtype=torch.uint64, device=query.device)  # state of dropout, unused
                gradients = aten._scaled_dot_product_flash_attention_backward(
                    *heads, lse, None, None, *lengths, 0.0, False, random, random
                )
            case "efficient":
                random = torch.empty((), dtype=torch.int64, device=query.device)
                gradients = aten._scaled_dot_product_efficient_attention_backward(
                    *heads[:4], None, heads[4], _aligned(lse), random, random, 0.0, [True, True, True, False]
                )[:3]
            case "cpu":
                gradients = aten._scaled_dot_product_flash_attention_for_cpu_backward(*heads, lse, 0.0, False)
            case _:
                return super().attend_backward(gradient, query, key, value, out, lse)
        of_query, of_key, of_value = _heads_first(*gradients)
        return of_query, of_key, of_value


def _heads_first(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.transpose(1, 2) for tensor in tensors)


def _aligned(lse: Float[Tensor, "b heads n"]) -> Float[Tensor, "b heads padded"]:
    return F.pad(lse, (0, -lse.shape[-1] % _LSE_ALIGNED))
