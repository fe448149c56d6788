"""Each importer knows its own files; the loss of a golden file is that of its configuration."""

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import GOLDEN, lvsm_setup, write
from safetensors.torch import load_file

from openrayzer.interfaces import InputError
from openrayzer.layers.weight_files import read_content
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.golden import compare, read_setting
from openrayzer.weights.interop.published_files import unwrapped
from openrayzer.weights.interop.recorded_loss import recorded_loss
from openrayzer.weights.interop.systems import SYSTEMS, check_belongs


@pytest.mark.parametrize("name", dict.fromkeys([*GOLDEN, "erayzer_tiny", "erayzer_b_tiny"]))
def test_exactly_one_system_knows_a_file_and_the_others_name_it(shared: Path, name: str):
    file = shared / f"golden/{name}.safetensors"
    own = read_setting(file)[0].name
    state = unwrapped(read_content(file, remedy=""), file).state
    assert [system.name for system in SYSTEMS.values() if system.owns(state)] == [own]
    for system in SYSTEMS.values():
        if system.name != own:
            with pytest.raises(
                InputError, match=f"these are weights of '{own}', not of '{system.name}': use --arch {own}"
            ):
                check_belongs(state, system)


def loss_for(weights: dict[str, Any]) -> float:
    """The loss of images that differ by 0.5 in half of their pixels."""
    render = torch.zeros(1, 1, 3, 2, 2)
    target = torch.tensor([0.5, 0.0]).expand_as(render)
    return recorded_loss(render, target, Configuration(weights, source="test", whole=True)).item()


@pytest.mark.parametrize(("weights", "loss"), [
    ({}, 0.125),
    ({"training": {"l2_loss_weight": 2.0, "lpips_loss_weight": 0.0}}, 0.25),
    ({"training": {"l2_loss_weight": 0.0, "l1_loss_weight": 1.0}}, 0.25),
    ({"training": {"l2_loss_weight": 1.0, "l1_loss_weight": 0.1}}, 0.15),
    ({"L_WEIGHTS": {"w_l1": {"value": 1.0}, "w_lpips": {"value": 0.0}}}, 0.5),
])  # fmt: skip
def test_the_recorded_loss_has_the_weights_of_the_configuration(weights, loss):
    assert loss_for(weights) == pytest.approx(loss)


@pytest.mark.parametrize("weights", [
    {"training": {"l2_loss_weight": 1.0, "perceptual_loss_weight": 0.5}}, {"L_WEIGHTS": {"w_lpips": {"value": 0.5}}},
])  # fmt: skip
def test_a_loss_that_needs_another_network_is_refused(weights):
    with pytest.raises(InputError, match="terms that need a network from elsewhere"):
        loss_for(weights)


def test_a_recording_with_absolute_errors_is_compared_with_absolute_errors(tmp_path: Path):
    setup = lvsm_setup()
    setup.config["training"] |= {"l1_loss_weight": 1.0}
    outputs = {name: torch.atleast_1d(value.detach()) for name, value in setup.outputs().items()}
    targets = setup.inputs["image"][:, -outputs["render"].shape[1] :]
    outputs["loss"] = (outputs["render"] - targets).abs().mean()[None]
    del outputs["grad_norm"]
    file = write(tmp_path / "absolute.safetensors", setup, outputs)
    assert all(row.passed for row in compare(file)[1])
    assert load_file(file)["out/loss"].item() > 1.5 * (outputs["render"] - targets).square().mean()
