"""Attention kernels run on this GPU and match the formula in float64."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from gpu_suite import ALLOWED, difference, refusal, rounded, with_gradients
from torch import Tensor
from torch.nn.attention import SDPBackend

from openrayzer.interfaces import ATTENTION_BACKENDS, AttentionBackend

pytestmark = pytest.mark.gpu
NAMES = [entry.name for entry in ATTENTION_BACKENDS if entry.target.__module__.startswith("openrayzer.")]
DTYPES = (torch.bfloat16, torch.float32)
LENGTHS = {"equal": (256, 256), "odd": (37, 301), "long keys": (64, 1500)}
in_both = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def heads(length: int, *, seed: int, dtype: torch.dtype) -> Tensor:
    return rounded(2, length, 3, 64, seed=seed, dtype=dtype)


def errors(backend: AttentionBackend, device: torch.device, dtype: torch.dtype, lengths: tuple[int, int]) -> list:
    """Errors of the output and of the three gradients against the formula in float64."""
    tensors = [heads(length, seed=seed, dtype=dtype) for seed, length in enumerate((lengths[0], *lengths[1:] * 2))]
    right = with_gradients(
        ATTENTION_BACKENDS["reference"]().attend, *tensors, device=torch.device("cpu"), dtype=torch.float64
    )
    ours = with_gradients(backend.attend, *tensors, device=device, dtype=dtype)
    return [difference(one, other) for one, other in zip(ours, right, strict=True)]


def test_xformers_has_operators_that_load(gpu: torch.device, figure: Callable[[str], None]):
    if find_spec("xformers") is None:
        pytest.skip("xformers is not installed")
    backend = ATTENTION_BACKENDS["xformers"]()
    refusals = {dtype: refusal(backend, gpu, dtype) for dtype in DTYPES}
    figure("; ".join(f"{dtype}: {why or 'accepted'}" for dtype, why in refusals.items()))
    assert not refusals[torch.bfloat16]
    assert max(errors(backend, gpu, torch.bfloat16, LENGTHS["equal"])) < ALLOWED[torch.bfloat16]


@in_both
def test_the_choice_of_auto_matches_the_formula(gpu: torch.device, dtype: torch.dtype, figure: Callable[[str], None]):
    auto, query = ATTENTION_BACKENDS["auto"](), torch.zeros(1, 64, 2, 64, device=gpu, dtype=dtype)
    refusals = auto.refusals(query, query)
    chosen = next(name for name, why in refusals.items() if not why)
    skipped = "".join(f"; {name}: {why}" for name, why in refusals.items() if why)
    worst = max(errors(auto, gpu, dtype, LENGTHS["odd"]))
    figure(f"{chosen}, {worst:.1e}{skipped}")
    assert worst < ALLOWED[dtype]


@in_both
def test_sdpa_uses_a_fused_kernel(gpu: torch.device, dtype: torch.dtype, figure: Callable[[str], None]):
    """PyTorch's own choice, without a mask and with a mask as in attention to neighbourhoods."""
    query = torch.zeros(2, 3, 64, 64, device=gpu, dtype=dtype)
    mask = torch.ones(2, 1, 64, 64, device=gpu, dtype=torch.bool)
    names = [SDPBackend(torch._fused_sdp_choice(query, query, query, attn_mask=each)).name for each in (None, mask)]
    figure(f"{names[0]}, with a mask {names[1]}")
    assert "MATH" not in names


@in_both
@pytest.mark.parametrize("name", NAMES)
def test_a_backend_matches_the_formula(gpu: torch.device, name: str, dtype: torch.dtype, figure: Callable[[str], None]):
    backend = ATTENTION_BACKENDS[name]()
    if why := refusal(backend, gpu, dtype):
        pytest.skip(why)
    found = {case: max(errors(backend, gpu, dtype, lengths)) for case, lengths in LENGTHS.items()}
    figure(", ".join(f"{case} {error:.1e}" for case, error in found.items()))
    assert max(found.values()) < ALLOWED[dtype]


@in_both
@pytest.mark.parametrize("name", NAMES)
def test_a_backend_reads_strided_tensors(gpu: torch.device, name: str, dtype: torch.dtype):
    """Queries, keys and values are parts of one tensor, like the output of a projection, without the first token."""
    backend = ATTENTION_BACKENDS[name]()
    if why := refusal(backend, gpu, dtype):
        pytest.skip(why)
    packed = rounded(2, 65, 3, 3, 64, seed=5, dtype=dtype)

    def attend(packed: Tensor, backend: AttentionBackend = backend) -> Tensor:
        return backend.attend(*packed[:, 1:].unbind(2))

    def formula(packed: Tensor) -> Tensor:
        return attend(packed, ATTENTION_BACKENDS["reference"]())

    right = with_gradients(formula, packed, device=torch.device("cpu"), dtype=torch.float64)
    ours = with_gradients(attend, packed, device=gpu, dtype=dtype)
    assert max(difference(one, other) for one, other in zip(ours, right, strict=True)) < ALLOWED[dtype]
