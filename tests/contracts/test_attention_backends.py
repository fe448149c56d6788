"""Every attention backend that runs here computes the formula, in outputs and gradients; the others say why not."""

import logging

import pytest
import torch

from openrayzer.components.attention import auto
from openrayzer.components.attention.xformers import operator_refusal
from openrayzer.interfaces import ATTENTION_BACKENDS, InputError

NAMES = [entry.name for entry in ATTENTION_BACKENDS]


def heads(n: int, *, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    values = torch.randn(2, n, 3, 16, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).requires_grad_()


def runnable(name: str):
    backend = ATTENTION_BACKENDS[name]()
    if refusal := backend.refusal(heads(1, seed=0)):
        pytest.skip(f"{name}: {refusal}")
    return backend


@pytest.mark.parametrize("name", NAMES)
def test_backend_computes_softmax_attention(name):
    backend = runnable(name)
    query, key, value = heads(5, seed=0), heads(7, seed=1), heads(7, seed=2)
    scores = torch.stack([query[..., h, :] @ key[..., h, :].mT for h in range(3)], dim=1) / 4
    expected = torch.stack([scores.softmax(-1)[:, h] @ value[..., h, :] for h in range(3)], dim=2)
    attended = backend.attend(query, key, value)
    torch.testing.assert_close(attended, expected)
    wanted = torch.randn(attended.shape, generator=torch.Generator().manual_seed(3))
    gradients = torch.autograd.grad((attended * wanted).sum(), (query, key, value))
    for gradient, other in zip(
        gradients, torch.autograd.grad((expected * wanted).sum(), (query, key, value)), strict=True
    ):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("name", NAMES)
def test_backend_keeps_bfloat16(name):
    backend = runnable(name)
    query, key, value = (heads(6, seed=seed, dtype=torch.bfloat16) for seed in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        attended = backend.attend(query, key, value)
    assert attended.dtype == torch.bfloat16
    exact = ATTENTION_BACKENDS["reference"]().attend(query.float(), key.float(), value.float())
    torch.testing.assert_close(attended.float(), exact, atol=3e-2, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_backend_that_cannot_run_is_refused_by_its_name_with_the_reason(name):
    backend, query = ATTENTION_BACKENDS[name](), heads(2, seed=0)
    if not (refusal := backend.refusal(query)):
        return
    with pytest.raises(InputError) as caught:
        backend.attend(query, query, query)
    assert f"'{name}'" in str(caught.value)
    assert refusal in str(caught.value)


@pytest.mark.parametrize(
    ("capability", "dtype", "head_width", "refusal"),
    [
        ((8, 0), torch.bfloat16, 64, ""),
        ((9, 0), torch.bfloat16, 64, ""),
        ((9, 0), torch.float32, 64, ""),
        ((10, 0), torch.bfloat16, 64, ""),
        ((7, 0), torch.float16, 64, ""),
        ((7, 0), torch.bfloat16, 64, "bfloat16 needs compute capability 8.0, this device has 7.0"),
        ((8, 0), torch.bfloat16, 60, "multiple of 8, got 60"),
        ((8, 0), torch.float32, 60, ""),
        ((8, 0), torch.float32, 62, "multiple of 4, got 62"),
        ((10, 0), torch.float32, 64, "float32 works up to compute capability 9.0"),
        ((8, 0), torch.float64, 64, "it takes float32, float16 and bfloat16"),
    ],
)
def test_xformers_knows_its_operators_limits(capability, dtype, head_width, refusal):
    said = operator_refusal(capability=capability, dtype=dtype, head_width=head_width)
    assert refusal in said
    assert bool(said) == bool(refusal)


def test_auto_says_once_what_it_took_and_why(caplog):
    auto._reported_choice.cache_clear()  # other tests may have been told already
    backend = ATTENTION_BACKENDS["auto"]()
    query = heads(4, seed=0)
    with caplog.at_level(logging.INFO, logger="openrayzer"):
        backend.attend(query, query, query)
        backend.attend(query, query, query)
    assert len(caplog.records) == 1
    assert "xformers: its operators need a CUDA device" in caplog.text
