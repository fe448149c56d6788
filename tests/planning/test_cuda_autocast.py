"""CUDA's autocast rules on a CPU, compared with PyTorch's own list."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openrayzer.planning.cuda_autocast import FLOAT32, FLOAT32_RESULT, LOWER, WIDEST, cuda_casts, operators_cast

NOT_OURS = {"binary_cross_entropy", "cudnn_convolution", "cudnn_convolution_transpose", "linalg_matrix_sqrth"}
"""Operators that autocast refuses, or that only other operators call."""


def test_the_lists_contain_every_operator_with_a_rule():
    names = {name for name in operators_cast("AutocastCUDA") if not name.endswith(("_cell", "_rnn"))}
    assert names - NOT_OURS == {*LOWER, *FLOAT32, *FLOAT32_RESULT, *WIDEST}


DTYPES: dict[str, tuple[Callable[[Tensor], Tensor], torch.dtype]] = {
    "linear": (lambda x: F.linear(x, torch.ones(8, 8)), torch.bfloat16),
    "einsum": (lambda x: torch.einsum("ij,kj->ik", x, x), torch.bfloat16),
    "attention": (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), torch.bfloat16),
    "gelu": (F.gelu, torch.bfloat16),
    "mean": (torch.mean, torch.bfloat16),
    "reflection": (lambda x: F.pad(x[None], (1, 1), mode="reflect"), torch.bfloat16),
    "layer_norm": (lambda x: F.layer_norm(x, (8,)), torch.float32),
    "residual": (lambda x: x + F.layer_norm(x, (8,)), torch.float32),
    "softmax": (lambda x: x.softmax(-1), torch.float32),
    "sum": (torch.sum, torch.float32),
    "sum_of_axis": (lambda x: x.sum(-1), torch.float32),
    "square": (torch.square, torch.float32),
    "normalize": (F.normalize, torch.float32),
    "norm": (lambda x: torch.ops.aten.norm.Scalar(x, 2), torch.float32),
    "norm_of_axis": (lambda x: torch.ops.aten.norm.ScalarOpt_dim(x, 2, [1]), torch.float32),
    "sum_in_bfloat16": (lambda x: x.sum(dtype=torch.bfloat16), torch.bfloat16),
    "addcmul": (lambda x: torch.addcmul(x, x, torch.ones(8)), torch.float32),
    "addcmul_of_like": (lambda x: torch.addcmul(x, x, x), torch.bfloat16),
    "float64": (lambda x: x.double().exp(), torch.float64),
}


@pytest.mark.parametrize("name", DTYPES)
def test_results_have_the_dtype_of_cudas_autocast(name: str):
    call, expected = DTYPES[name]
    with cuda_casts(), torch.autocast("cpu", torch.bfloat16):
        assert call(torch.ones(8, 8, dtype=torch.bfloat16)).dtype == expected


def test_the_rules_end_with_the_block():
    values = torch.ones(4, 8, dtype=torch.bfloat16)
    with cuda_casts():
        assert F.layer_norm(values, (8,)).dtype == torch.bfloat16  # no autocast
    with torch.autocast("cpu", torch.bfloat16):
        assert F.layer_norm(values, (8,)).dtype == torch.bfloat16


def test_gradients_pass_casts_and_recomputation():
    norm, linear = nn.LayerNorm(8), nn.Linear(8, 8)
    values = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with cuda_casts():
        with torch.autocast("cpu", torch.bfloat16):
            result = checkpoint(lambda x: norm(linear(x)).square().sum(), values, use_reentrant=False)
        result.backward()
    expected = values.detach().clone().requires_grad_()
    norm(linear(expected)).square().sum().backward()
    assert torch.allclose(values.grad, expected.grad, atol=0.05)


def test_operators_of_other_libraries_keep_their_rules():
    import torchvision  # noqa: F401  # registers operators of its own

    assert not any("::" in name for name in operators_cast("AutocastCPU"))
    with cuda_casts(), torch.autocast("cpu", torch.bfloat16):
        assert torch.ones(2, 2, dtype=torch.bfloat16).sum().dtype == torch.float32
