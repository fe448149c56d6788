"""UP-LVSM and PT-LVSM: agreement with independent code, sizes read from weights, settings that are refused."""

import math
from pathlib import Path

import pytest
import torch
from published import Sizes
from published_less3depend import ptlvsm, uplvsm
from recordings import LESS3DEPEND, less3depend_setup, record
from test_straight_line import assert_reproduced
from test_systems import imported, model_of, published_shapes
from torch import Tensor

from openrayzer.composer import construct, plan
from openrayzer.interfaces import REGISTRIES, InputError, Model

CASES = {
    "square": {},
    "wide, first context view in the middle, targets among the contexts": {
        "size": (14, 42), "context": ((2, 0, 4), (1, 3, 0)), "target": ((4, 1), (1, 2)),
    },
    "tall, no query-key norm": {"size": (42, 28), "normed": False},
    "heads of 64, DINOv2 without query-key norm": {"sizes": Sizes(128, 64, 14, 3), "dino_normed": False},
}  # fmt: skip


@pytest.mark.parametrize("title", CASES)
@pytest.mark.parametrize("arch", LESS3DEPEND)
def test_it_agrees_with_straight_line_code(tmp_path: Path, arch: str, title: str):
    one = less3depend_setup(arch, **CASES[title])
    assert_reproduced(record(tmp_path, one), one)


@pytest.mark.parametrize(("arch", "start", "parameters"), [
    ("uplvsm", "### uplvsm", 260_132_743), ("ptlvsm", "### ptlvsm", 258_753_024),
])  # fmt: skip
def test_released_sizes_have_the_published_number_of_parameters(shared: Path, arch: str, start: str, parameters: int):
    """Class token and its position are two published parameters of 768 numbers, and one of ours."""
    found = imported(arch, published_shapes(shared / "spec/state_dict_uplvsm.txt", start), {})
    with torch.device("meta"):
        model = construct(plan(found.model, Model, registries=REGISTRIES))
    shapes = {name: value.shape for name, value in model.named_parameters()}
    assert {name: value.shape for name, value in found.weights.items()} == shapes
    assert sum(math.prod(shape) for shape in shapes.values()) + 768 == parameters


def test_weights_without_a_configuration_are_enough():
    tokenizer = imported("uplvsm", uplvsm()).model["tokenizer"]
    assert (tokenizer["depth"], tokenizer["num_heads"], tokenizer["qk_norm_eps"]) == (2, 2, 1e-3)
    assert (tokenizer["normalise"], tokenizer["pretrained"]) == (False, False)
    assert imported("ptlvsm", ptlvsm()).model["renderer"]["qk_norm_eps"] == 1e-3


@pytest.mark.parametrize(("arch", "config", "message"), [
    ("uplvsm", {"unposed": {"pose_enc_type": "absT_quaR_FoV"}}, "says 'absT_quaR_FoV', the weights say 'absT_quaR'"),
    ("uplvsm", {"unposed": {"dino_qknorm": False}}, "unposed.dino_qknorm: test.yaml says False, the weights say True"),
    ("uplvsm", {"model": {"transformer": {"estimator_n_layer": 4}}}, "says 4, the weights say 2"),
    ("ptlvsm", {"model": {"image_tokenizer": {"patch_size": 16}}}, "says 16, the weights say 14"),
    ("ptlvsm", {"unposed": {"canonical_camera": True}}, "unposed.canonical_camera: true is not supported"),
])  # fmt: skip
def test_a_configuration_that_contradicts_the_weights_is_refused(arch, config, message):
    with pytest.raises(InputError, match=message):
        imported(arch, LESS3DEPEND[arch](), config)


def test_one_tokenizer_of_all_rays_becomes_two_equal_ones():
    state, config = uplvsm(), {"unposed": {"decoder_as_canonical": True}}
    del state["canonical_pose_tokenizer.1.weight"]
    with pytest.raises(InputError, match=r"1 weight\(s\) are missing: canonical_pose_tokenizer.1.weight"):
        imported("uplvsm", state)
    model = model_of("uplvsm", state, config)
    assert torch.equal(model.fusion.rays.linear.weight, model.scene.target_rays.linear.weight)
    assert "becomes two equal ones" in imported("uplvsm", state, config).notes[0]


def test_damaged_weights_are_named():
    state: dict[str, Tensor] = uplvsm()
    name = "image_tokenizer.1.dino_vit.pos_embed"
    with pytest.raises(InputError, match=r"pos_embed has shape \(1, 1370, 3\) and cls_token \(1, 1, 16\)"):
        imported("uplvsm", state | {name: torch.zeros(1, 1370, 3)})
    with pytest.raises(InputError, match=rf"do not fit the model: {name} has shape \(1, 99, 16\) instead of"):
        model_of("uplvsm", state | {name: torch.zeros(1, 100, 16)})
    del state[name]
    with pytest.raises(InputError, match=rf"1 weight\(s\) are missing: {name}"):
        imported("uplvsm", state)
