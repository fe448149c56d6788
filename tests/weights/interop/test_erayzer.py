"""E-RayZer: recorded outputs, sizes and settings from weights and configuration, contradictions."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from published import HEAD, PATCH, WIDTH
from published_erayzer import RELEASED, erayzer
from safetensors.torch import load_file

from openrayzer.composer import construct, plan
from openrayzer.interfaces import REGISTRIES, InputError, Model
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.erayzer_released import ERayZerWeights
from openrayzer.weights.interop.golden import build_imported, compare
from openrayzer.weights.interop.system import Imported


def imported(state: dict[str, torch.Tensor], *, whole: bool = False, **model: Any) -> Imported:
    return ERayZerWeights().read(state, Configuration({"model": model}, source="test.yaml", whole=whole))


def released(**changes: Any) -> dict[str, Any]:
    return deepcopy(RELEASED) | changes


@pytest.mark.parametrize("name", ["erayzer_tiny", "erayzer_b_tiny"])
@pytest.mark.parametrize("checkpointing", [0, 1])
def test_cameras_gaussians_images_and_gradients_are_the_recorded_ones(shared: Path, name: str, checkpointing: int):
    file = shared / f"golden/{name}.safetensors"
    arch, rows = compare(file, activation_checkpointing=checkpointing)
    assert arch == "erayzer"
    assert {f"out/{row.name}" for row in rows} == {key for key in load_file(file) if key.startswith("out/")}
    for row in rows:
        assert row.passed, row


def test_sizes_and_settings_come_from_weights_and_configuration():
    model = imported(erayzer(), **released()).model
    assert (model["width"], model["num_heads"], model["patch_size"]) == (WIDTH, WIDTH // HEAD, PATCH)
    assert (model["estimator_depth"], model["encoder_depth"], model["encoder"]) == (2, 4, "alternating")
    assert (model["num_camera_tokens"], model["num_register_tokens"]) == (1, 4)
    renderer = model["renderer"]
    assert (renderer["harmonics_degree"], renderer["near"], renderer["far"]) == (1, 0, 8)
    assert (renderer["scale_bias"], renderer["max_log_scale"], renderer["opacity_bias"]) == (-3.0, -2.0, -2.0)
    assert (renderer["rasteriser"]["near"], renderer["rasteriser"]["extent"]) == (0.2, "three_sigma")
    assert model["camera_head"]["type"] == "rot6d"
    quaternions = imported(erayzer(rotation=4), **released()).model
    assert quaternions["camera_head"]["type"] == "quaternion"
    plain = imported(erayzer(embedded=False), **released()).model
    assert (plain["position_encoding"], plain["fusion"]["ray_positions"]) == ({"type": "none"}, None)


def test_values_that_the_weights_do_not_show_are_listed_at_once():
    with pytest.raises(InputError) as caught:
        imported(erayzer())
    keys = {line.split()[0] for line in str(caught.value).splitlines()[1:]}
    assert keys == {
        "model.pose_latent.canonical", "model.gaussians.range_setting.type", "model.gaussians.range_setting.near",
        "model.gaussians.range_setting.far", "model.near_plane", "model.scaling_bias", "model.scaling_max",
        "model.opacity_bias",
    }  # fmt: skip


def test_the_published_defaults_take_the_place_of_missing_keys():
    renderer = imported(erayzer(), whole=True).model["renderer"]
    assert (renderer["spacing"], renderer["near"], renderer["far"]) == ("linear", 1.2, 4.2)
    assert (renderer["scale_bias"], renderer["max_log_scale"], renderer["opacity_bias"]) == (-2.3, -1.2, -2.0)


@pytest.mark.parametrize(
    ("kind", "ends", "spacing"),
    [("log_depth", (math.exp(-1), math.exp(2)), "log"), ("disparity", (0.5, 2), "disparity")],
)
def test_ranges_of_distances(kind: str, ends: tuple[float, float], spacing: str):
    given = {"log_depth": (-1, 2), "disparity": (0.5, 2)}[kind]
    setting = {"type": kind, "near": given[0], "far": given[1]}
    renderer = imported(erayzer(), **released(gaussians={"range_setting": setting})).model["renderer"]
    assert (renderer["near"], renderer["far"], renderer["spacing"]) == (*ends, spacing)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose_latent": {"canonical": "middle", "mode": "global"}}, "mode: test.yaml says 'global'"),
        ({"scaling_bias": "low"}, "scaling_bias: test.yaml says 'low', expected a number"),
        ({"transformer": {"encoder_n_layer": 3}}, "encoder_n_layer: test.yaml says 3, the weights say 2"),
    ],
)
def test_a_configuration_that_contradicts_the_weights_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        imported(erayzer(), **released(**changes))


def test_weights_of_other_shapes_are_refused_by_name():
    state = erayzer()
    one_view = state | {"pose_predictor.rel_head.0.weight": torch.zeros(WIDTH, WIDTH)}
    with pytest.raises(InputError, match="rel_head reads one view alone"):
        imported(one_view, **released())
    other = state | {"image_token_decoder.1.weight": torch.zeros(15 * PATCH**2, WIDTH)}
    with pytest.raises(InputError, match="gives 15 values per pixel, supported are 14, 23, 38, 59"):
        imported(other, **released())


def test_copies_of_the_last_view_change_cameras_of_few_views_only():
    found = imported(erayzer(), **released())
    images = torch.rand(1, 11, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, padded = (build_imported(found, source=Path("weights.pt")) for _ in range(2))
    padded.min_estimated_views = 10
    assert torch.equal(plain.estimate(images).c2w, padded.estimate(images).c2w)
    few = padded.estimate(images[:, :4]).c2w
    assert few.shape == (1, 4, 4, 4)
    assert not any(torch.equal(pose, torch.eye(4)) for pose in few[0])  # the canonical view is a copy
    copies = torch.cat([images[:, :4], images[:, 3:4].expand(-1, 6, -1, -1, -1)], dim=1)
    torch.testing.assert_close(plain.estimate(copies).c2w[:, :4], few)


def test_the_released_size_has_the_published_number_of_parameters(shared: Path):
    lines = (shared / "spec/state_dict_erayzer.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t")[:2] for line in lines if line.count("\t") == 2]
    state = {name: torch.zeros(()).expand([int(size) for size in shape.strip("(),").split(",") if size.strip()])
             for name, shape in rows}  # fmt: skip
    gaussians = RELEASED["gaussians"] | {"sh_degree": 3}
    found = imported(state, **released(gaussians=gaussians))
    with torch.device("meta"):
        model = construct(plan(found.model, Model, registries=REGISTRIES))
    shapes = {weight: value.shape for weight, value in model.named_parameters()}
    assert {weight: value.shape for weight, value in found.weights.items()} == shapes
    assert sum(math.prod(shape) for shape in shapes.values()) == 245_833_225
