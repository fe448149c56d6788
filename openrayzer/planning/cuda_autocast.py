"""CUDA's autocast rules for CPU tensors, so that a run on a GPU can be planned without one.

A CPU's autocast to bfloat16 leaves layer norms, sums and powers in bfloat16. CUDA's autocast computes them in float32,
and their float32 results keep the residual stream in float32. This module replaces the kernels of the CPU's autocast
in torch's dispatcher by kernels with CUDA's rules.

Source of the lists: PyTorch's ATen/autocast_mode.h, ``AT_FORALL_*``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, fallthrough_kernel
from torch.utils._pytree import tree_leaves, tree_map

_KEY = "AutocastCPU"

LOWER = (
    "_convolution", "_convolution.deprecated", "_scaled_dot_product_flash_attention", "addbmm", "addmm", "addmv",
    "addr", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d",
    "conv_transpose2d.input", "conv_transpose3d.input", "convolution", "einsum", "linalg_multi_dot", "linalg_vecdot",
    "linear", "matmul", "mm", "mv", "prelu", "scaled_dot_product_attention",
)  # fmt: skip
"""Operators computed in bfloat16."""
FLOAT32 = (
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d", "acos", "asin", "binary_cross_entropy_with_logits", "cdist", "cosh",
    "cosine_embedding_loss", "cosine_similarity", "dist", "erfinv", "exp", "expm1", "frobenius_norm.dim", "group_norm",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "layer_norm", "log", "log10", "log1p", "log2",
    "logsumexp", "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "native_layer_norm",
    "nll_loss", "nll_loss2d", "nuclear_norm", "nuclear_norm.dim", "pdist", "poisson_nll_loss", "pow.Scalar",
    "pow.Tensor_Scalar", "pow.Tensor_Tensor", "reciprocal", "renorm", "rms_norm", "rsqrt", "sinh", "smooth_l1_loss",
    "soft_margin_loss", "softplus", "tan", "triplet_margin_loss", "upsample_bicubic2d", "upsample_bilinear2d",
    "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_trilinear3d",
)  # fmt: skip
"""Operators computed in float32, from inputs cast to float32."""
FLOAT32_RESULT = {
    **{
        name: name
        for name in (
            "cumprod", "cumsum", "linalg_matrix_norm", "linalg_matrix_norm.str_ord", "linalg_vector_norm",
            "log_softmax.int", "prod", "prod.dim_int", "softmax.int", "sum", "sum.dim_IntList",
        )
    },
    "norm.Scalar": "norm.ScalarOpt_dtype",
    "norm.ScalarOpt_dim": "norm.ScalarOpt_dim_dtype",
}  # fmt: skip
"""Operators computed in float32 without a copy of the input, unless the call gives a dtype; the value is the overload
that takes a dtype."""
WIDEST = (
    "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "scatter_add", "tensordot",
    "vdot",
)  # fmt: skip
"""Operators computed in float32 if any input is float32, otherwise in bfloat16."""

_Kernel = Callable[..., Any]


@contextmanager
def cuda_casts() -> Iterator[None]:
    """Inside the block, ``torch.autocast("cpu", torch.bfloat16)`` casts CPU tensors as CUDA's autocast would.

    A backward pass that recomputes activations must run inside the block. The kernels change in the whole process.
    """
    library = Library("aten", "IMPL")
    try:
        for name, kernel in _kernels().items():
            library.impl(name, kernel, _KEY)
        yield
    finally:
        library._destroy()


def _kernels() -> dict[str, _Kernel]:
    """The kernels with CUDA's rules; operators that only a CPU's autocast casts are not cast."""
    of_cpu = operators_cast(_KEY)
    kernels: dict[str, _Kernel] = dict.fromkeys(of_cpu - {*LOWER}, fallthrough_kernel)
    kernels |= {name: _in(torch.bfloat16, name) for name in LOWER if name not in of_cpu and _exists(name)}
    kernels |= {name: _in(torch.float32, name) for name in FLOAT32 if _exists(name)}
    kernels |= {name: _with_result(name, overload) for name, overload in FLOAT32_RESULT.items() if _exists(name)}
    return kernels | {name: _in_widest(name) for name in WIDEST if _exists(name)}


def operators_cast(key: str) -> set[str]:
    """PyTorch's own operators with an autocast rule for a dispatch key; libraries like torchvision do not count."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    return {name.removeprefix("aten::") for name in registered if name.startswith("aten::")}


def _in(dtype: torch.dtype, name: str) -> _Kernel:
    operator = _operator(name)

    def kernel(*arguments: Any, **named: Any) -> Any:
        return _call(operator, *_cast((arguments, named), dtype))

    return kernel


def _in_widest(name: str) -> _Kernel:
    operator = _operator(name)

    def kernel(*arguments: Any, **named: Any) -> Any:
        values = arguments, named
        single = any(leaf.dtype == torch.float32 for leaf in tree_leaves(values) if _is_cast(leaf))
        return _call(operator, *_cast(values, torch.float32 if single else torch.bfloat16))

    return kernel


def _with_result(name: str, overload: str) -> _Kernel:
    """A kernel that sets the argument ``dtype`` if the call does not."""
    operator = _operator(overload)
    parameters = _operator(name)._schema.arguments
    defaults = {one.name: one.default_value for one in parameters if one.has_default_value()}

    def kernel(*arguments: Any, **named: Any) -> Any:
        positional = {one.name: value for one, value in zip(parameters, arguments, strict=False)}
        named = defaults | positional | named
        if named.get("dtype") is None and _is_cast(named["self"]):
            named["dtype"] = torch.float32
        elif overload != name:
            return _call(_operator(name), (), named)
        return _call(operator, (), named)

    return kernel


def _call(operator: _Kernel, arguments: Any, named: Any) -> Any:
    with torch.autocast("cpu", enabled=False):  # operators called by this one are not cast again
        return operator(*arguments, **named)


def _cast(values: Any, dtype: torch.dtype) -> Any:
    return tree_map(lambda leaf: leaf.to(dtype) if _is_cast(leaf) else leaf, values)


def _is_cast(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _exists(name: str) -> bool:
    """Whether this version of torch has an operator."""
    try:
        return _operator(name) is not None
    except AttributeError:
        return False
