"""What every objective promises, for a model that suits all of them."""

import pytest
import torch
from small import names

from openrayzer.interfaces import (
    ATTENTION_BACKENDS,
    ATTENTION_LAYOUTS,
    CAMERA_HEADS,
    FUSIONS,
    MODELS,
    OBJECTIVES,
    POSITION_ENCODINGS,
    RENDERERS,
    TOKENIZERS,
    Model,
    Objective,
)

pytestmark = pytest.mark.parametrize("name", names(OBJECTIVES))


@pytest.fixture
def model(small) -> Model:
    return small(
        MODELS,
        "rayzer",
        tokenizer=small(TOKENIZERS, "linear"),
        layout=small(ATTENTION_LAYOUTS, "global"),
        camera_head=small(CAMERA_HEADS, "rot6d"),
        position_encoding=small(POSITION_ENCODINGS, "rope2d"),
        fusion=small(FUSIONS, "pixel"),
        renderer=small(RENDERERS, "layered"),
        attention=ATTENTION_BACKENDS["sdpa"](),
        num_latents=0,
        encoder="per_view",
    ).train()


@pytest.fixture
def objective(small, name: str) -> Objective:
    return small(OBJECTIVES, name)


def loss_of(objective: Objective, model: Model, views) -> torch.Tensor:
    torch.manual_seed(1)
    prediction = objective(model, views)
    assert prediction.images.shape == views.target_images.shape
    assert prediction.cameras.c2w.shape == (2, 5, 4, 4)
    return (prediction.images - views.target_images).square().mean() + sum(prediction.extra_losses.values())


def test_every_weight_of_model_and_objective_gets_a_gradient_and_two_steps_lower_the_loss(objective, model, views):
    objective.check_model(model)
    weights = dict(model.named_parameters()) | {
        f"objective.{key}": value for key, value in objective.named_parameters()
    }
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    losses = []
    for _ in range(3):
        losses.append(loss_of(objective, model, views))
        optimizer.zero_grad()
        losses[-1].backward()
        for key, weight in weights.items():
            assert weight.grad is not None, key
            assert weight.grad.isfinite().all(), key
        optimizer.step()
    assert losses[2] < losses[0]


def test_the_same_random_numbers_give_the_same_loss(objective, model, views):
    assert loss_of(objective, model, views) == loss_of(objective, model, views)


def test_the_names_of_extra_losses_never_change(objective, model, views):
    first, second = (set(objective(model, views).extra_losses) for _ in range(2))
    assert first == second
