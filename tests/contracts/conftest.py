"""Small components of every kind, from whatever their constructors require."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from openrayzer.types import Cameras, Views
from registry import Registry

SMALL = {
    "width": 32, "num_heads": 2, "patch_size": 8, "depth": 2,
    "estimator_depth": 2, "encoder_depth": 2, "num_latents": 3,
}  # fmt: skip


def small_component(registry: Registry, name: str, **given: Any) -> Any:
    """A small component with the same weights every time; ``given`` arguments win."""
    torch.manual_seed(0)
    entry = next(entry for entry in registry if entry.name == name)
    required = {p.name for p in entry.parameters if p.default is p.empty}
    if "parts" in required - given.keys():  # a combination of others of its kind
        others = [other.name for other in registry if other.name != name]
        given |= {"parts": [small_component(registry, other) for other in others]}
    return entry.target(**{key: value for key, value in SMALL.items() if key in required} | given)


@pytest.fixture
def small() -> Callable[..., Any]:
    """See ``small_component``."""
    return small_component


@pytest.fixture
def views() -> Views:
    """Two clips of five views, 16 x 24 pixels, with cameras; the targets are views 1 and 3."""
    generator = torch.Generator().manual_seed(0)
    c2w = torch.eye(4).repeat(2, 5, 1, 1)
    c2w[..., :3, 3] = torch.rand(2, 5, 3, generator=generator)
    return Views(
        images=torch.rand(2, 5, 3, 16, 24, generator=generator),
        frames=torch.arange(5).repeat(2, 1) * 3,
        context=torch.tensor([[0, 2, 4]] * 2),
        target=torch.tensor([[1, 3]] * 2),
        scenes=("attic", "cellar"),
        cameras=Cameras(c2w, torch.tensor([0.8, 1.2, 0.5, 0.5]).repeat(2, 5, 1)),
    )
