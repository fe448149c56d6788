"""Efficient-LVSM: sizes and settings from its weights, contradictions, missing weights, and incomplete recordings."""

from pathlib import Path

import pytest
import torch
from published import HEAD, PATCH, WIDTH, efficient_lvsm
from recordings import efficient_lvsm_setup, write

from openrayzer.interfaces import InputError
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.efficient import EfficientLVSMWeights
from openrayzer.weights.interop.golden import build_imported, compare
from openrayzer.weights.interop.system import Imported
from openrayzer.weights.interop.systems import SYSTEMS, check_belongs, system_named

HEADS = {"transformer": {"d_head": HEAD}}


def imported(state: dict[str, torch.Tensor], **model: object) -> Imported:
    return EfficientLVSMWeights().read(state, Configuration({"model": model}, source="test.yaml", whole=False))


def test_sizes_and_views_come_from_weights_and_configuration():
    values = {
        "model": {"image_tokenizer": {"image_size": 512}},
        "training": {"num_input_views": 2, "num_target_views": 6},
    }
    configuration = Configuration(values, source="test.yaml", whole=True)
    found = EfficientLVSMWeights().read(efficient_lvsm(depth=4), configuration)
    model = found.model
    assert (model["width"], model["num_heads"], model["patch_size"]) == (WIDTH, WIDTH // HEAD, PATCH)
    assert (model["encoder_depth"], model["renderer"]["depth"], model["renderer"]["type"]) == (4, 4, "layered")
    assert {"data.image_size=[512, 512]", "data.view_sampler.num_target=6"} <= set(found.experiment)


def test_a_built_model_has_no_weights_besides_the_published_ones():
    state = efficient_lvsm()
    model = build_imported(imported(state), source=Path("weights.pt"))
    assert sum(value.numel() for value in model.state_dict().values()) == sum(value.numel() for value in state.values())


def test_without_query_key_norm_the_width_of_a_head_must_be_given():
    state = efficient_lvsm(normed=False)
    with pytest.raises(InputError, match=r"model.transformer.d_head \(width of one attention head\)"):
        imported(state)
    model = imported(state, **HEADS).model
    assert (model["qk_norm_eps"], model["renderer"]["qk_norm_eps"]) == (None, None)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"transformer": {"n_layer": 24}}, "n_layer: test.yaml says 24, the weights say 3"),
        ({"transformer": {"use_qk_norm": False}}, "use_qk_norm: test.yaml says False, the weights say True"),
        ({"target_pose_tokenizer": {"patch_size": 8}}, "says 8, the weights say 4"),
    ],
)
def test_a_configuration_that_contradicts_the_weights_is_refused(model, message):
    with pytest.raises(InputError, match=message):
        imported(efficient_lvsm(), **model)


def test_two_patch_sizes_are_refused():
    state = efficient_lvsm() | {"target_pose_tokenizer.1.weight": torch.zeros(WIDTH, 6 * 64)}
    with pytest.raises(InputError, match="patches of 4 pixels and target views of 8; only equal patches are supported"):
        imported(state)


def test_missing_and_unknown_weights_are_listed():
    state = efficient_lvsm() | {"extra.weight": torch.zeros(1)}
    del state["self_cross_blocks.1.cross_attn.to_kv.weight"]
    with pytest.raises(InputError) as caught:
        imported(state)
    assert "1 weight(s) are missing: self_cross_blocks.1.cross_attn.to_kv.weight" in str(caught.value)
    assert "1 weight(s) are unknown: extra.weight" in str(caught.value)


def test_a_recording_without_the_roles_of_its_views_is_refused(tmp_path: Path):
    setup = efficient_lvsm_setup()
    del setup.inputs["increments"], setup.inputs["target_idx"]
    file = write(tmp_path / "recording.safetensors", setup, {"render": torch.zeros(1)})
    with pytest.raises(InputError, match="the recording has no in/target_idx nor in/increments"):
        compare(file)


def test_xfactor_is_known_and_refused_with_the_reason():
    with pytest.raises(InputError, match="XFactor's weights are not imported: a camera of XFactor is a list of 256"):
        system_named("xfactor")
    for system in SYSTEMS.values():
        with pytest.raises(InputError, match=r"its training objective works with the models here: .*mask_swap"):
            check_belongs({"PoseEnc.global_embed": torch.zeros(32, 4)}, system)
