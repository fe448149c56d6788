"""Plane rotations and RMSNorm equal their formulas, and their explicit gradients are correct."""

import torch

from openrayzer.layers.rms_norm import RMSNorm, rms_normalise
from openrayzer.layers.rotary import PlaneRotation


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_plane_rotates_like_a_complex_number():
    values, angles = random(3, 8), random(3, 4, seed=1)
    numbers = torch.complex(values[:, :4], values[:, 4:]) * torch.polar(torch.ones_like(angles), angles)
    rotated = PlaneRotation(angles)(values)
    torch.testing.assert_close(rotated, torch.cat([numbers.real, numbers.imag], dim=-1))
    torch.testing.assert_close(PlaneRotation(-angles)(rotated), values)


def test_rotating_bfloat16_rounds_once():
    values, angles = random(64, 8).bfloat16(), random(64, 4, seed=1).float()
    assert torch.equal(PlaneRotation(angles)(values), PlaneRotation(angles)(values.float()).bfloat16())


def test_gradients_of_the_norm_are_those_of_its_formula():
    tokens, gain = random(2, 3, 5).requires_grad_(), random(3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, g: rms_normalise(x, g, eps=1e-3), (tokens, gain))
    wanted = random(2, 3, 5, seed=2)
    formula = tokens * (tokens.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * gain
    ours = torch.autograd.grad(rms_normalise(tokens, gain, eps=1e-3), (tokens, gain), wanted)
    for gradient, expected in zip(ours, torch.autograd.grad(formula, (tokens, gain), wanted), strict=True):
        torch.testing.assert_close(gradient, expected)


def test_a_gain_per_token_has_the_gradient_of_the_formula():
    tokens, gain = random(3, 5).requires_grad_(), random(3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, g: rms_normalise(x, g, eps=1e-3), (tokens, gain))


def test_the_norm_computes_in_float32_and_its_gradient_has_the_dtype_of_the_tokens():
    norm, tokens = RMSNorm(8), (100 * random(4, 8)).bfloat16().requires_grad_()
    normalised = norm(tokens)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, norm(tokens.detach().float()))
    normalised.sum().backward()
    assert tokens.grad.dtype == torch.bfloat16
    assert norm.weight.grad.dtype == torch.float32
