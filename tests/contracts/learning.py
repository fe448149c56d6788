"""Training of a few steps, as every model has to survive it."""

from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from openrayzer.interfaces import InputError, Model
from openrayzer.types import Views

ModuleKind = TypeVar("ModuleKind", bound=nn.Module)


def loss_of(model: Model, views: Views) -> torch.Tensor:
    """Mean squared error plus the model's own losses; random choices of the model are the same at every call."""
    torch.manual_seed(3)
    prediction = model(views)
    return (prediction.images - views.target_images).square().mean() + sum(prediction.extra_losses.values())


def assert_trains(model: Model, views: Views, *, rate: float = 0.2) -> None:
    """Every weight gets a finite gradient, and two steps lower the loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    first = loss_of(model, views)
    first.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, f"{name} gets no gradient"
        assert torch.isfinite(weight.grad).all(), name
    for _ in range(2):
        optimizer.step()
        optimizer.zero_grad()
        last = loss_of(model, views)
        last.backward()
    assert last < first


def awake(module: ModuleKind) -> ModuleKind:
    """The module with random weights in place of those that start at or near zero, so that every part matters."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
            elif weight.abs().max() < 1e-2:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return module


def as_a_list(views: Views) -> Views:
    """The clips as lists in random order: every view but the first is a target and follows its contexts."""
    order = torch.tensor([[3, 0, 4, 1, 2], [2, 4, 1, 0, 3]])
    return replace(views, context=order[:, :-1], target=order[:, 1:])


def accepted(model: Model, views: Views) -> Views:
    """``views`` with roles of views on which the model can be trained."""
    try:
        model.check_roles(views.context, views.target, views.scenes)
    except InputError:
        return as_a_list(views)
    return views
