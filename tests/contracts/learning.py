"""What every model is asked for alike: that it learns."""

import torch

from openrayzer.interfaces import Model
from openrayzer.types import Views


def loss_of(model: Model, views: Views) -> torch.Tensor:
    """Mean squared error; whatever the model draws, such as dropped states, is the same at every call."""
    torch.manual_seed(3)
    return (model(views).images - views.target_images).square().mean()


def assert_trains(model: Model, views: Views) -> None:
    """Every weight gets a finite gradient, and two steps lower the loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
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
