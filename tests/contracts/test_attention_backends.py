"""Every attention backend that runs here computes softmax attention and its gradients; others state a reason."""

import pytest
import torch
from small import names

from openrayzer.interfaces import ATTENTION_BACKENDS, InputError

NAMES = names(ATTENTION_BACKENDS)


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
