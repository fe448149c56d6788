"""The ZeRO optimizer holds the model's own weights if they are float32, otherwise a copy."""

import pytest
import torch
import toy

from openrayzer.machine.distributed import Process
from openrayzer.training.deepspeed_config import load_deepspeed_config
from openrayzer.training.engine import Engine

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.mark.parametrize(
    ("deepspeed", "shared"),
    [("zero1", True), ("zero2", True), ("zero2_bf16", False)],
)
def test_float32_weights_are_not_held_twice(
    process: Process, monkeypatch: pytest.MonkeyPatch, deepspeed: str, shared: bool
):
    from deepspeed.runtime import torch_autocast

    monkeypatch.setattr(torch_autocast, "TORCH_AUTOCAST_INITIALIZED", False)
    experiment = toy.experiment(deepspeed=f"ds_configs/{deepspeed}.json")
    config = load_deepspeed_config(experiment.deepspeed, experiment.train, world_size=1)
    engine = Engine(experiment.model, settings=experiment.train, config=config, process=process)
    models = {weight.untyped_storage().data_ptr() for weight in engine.model.parameters()}
    held = engine.partition.weights
    assert {weights.untyped_storage().data_ptr() in models for weights in held} == {shared}
    optimized = [weights for group in engine.deepspeed.optimizer.optimizer.param_groups for weights in group["params"]]
    assert all(weights is other for weights, other in zip(held, optimized, strict=True))
    with torch.no_grad():
        held[0].fill_(0.25)
    engine.partition.publish()
    assert bool((engine.model.inner[0].weight == 0.25).all())
