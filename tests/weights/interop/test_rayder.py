"""RayDer's weights: names, sizes from shapes, layouts of rotary frequencies, and outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from published_rayder import AS_PUBLISHED, SIZES
from published_rayder import rayder as published
from safetensors.torch import load_file
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.roles import ROLES, LearnedCodes
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.golden import ABSOLUTE, build_imported, read_setting
from openrayzer.weights.interop.rayder import RayDerWeights
from openrayzer.weights.interop.system import Imported

WIDTH, HEAD, DEPTH, STATE = SIZES.width, SIZES.head, SIZES.depth, SIZES.state_width


def configuration(**changes: Any) -> Configuration:
    return Configuration(SIZES.config() | changes, source="config", whole=True)


def read(state: dict[str, Tensor], **changes: Any) -> Imported:
    return RayDerWeights().read(state, configuration(**changes))


def test_sizes_come_from_shapes_and_no_configuration_is_needed():
    imported = RayDerWeights().read(published(), Configuration({}, source="nothing", whole=False))
    assert imported.model == read(published()).model
    model = imported.model
    assert (model["width"], model["depth"], model["head_width"], model["state_width"]) == (WIDTH, DEPTH, HEAD, STATE)
    assert model["levels"] == [{"width": 16, "depth": 1, "patch": 2}, {"width": 32, "depth": 2, "patch": 2}]
    assert (model["middle_patch"], model["mlp_ratio"]) == (2, 3.0)
    assert (model["gains"], model["window_borders"]) == ("projection", "swapped")
    built = build_imported(imported, source=Path("published"))
    assert built.patch_size == 8
    count = sum(value.numel() for name, value in published().items() if "pos_emb" not in name)
    assert sum(weight.numel() for weight in built.parameters()) == count


@pytest.mark.parametrize(("layout", "spread"), [(AS_PUBLISHED, "interleaved"), ("(h k) -> h k", "blocked")])
def test_the_layout_of_rotary_frequencies_is_read_from_the_stored_frequencies(layout, spread):
    assert read(published(layout=layout)).model["frequency_spread"] == spread


def test_frequencies_of_no_known_layout_are_refused():
    state = published()
    state["backbone.mid_level.1.local_attn.pos_emb.spatial_freqs"] *= 1.1
    with pytest.raises(InputError, match=r"'interleaved' does not match backbone\.mid_level\.1\.local_attn\.pos_emb"):
        read(state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_frequencies_stored_in_half_precision_are_recognised(dtype):
    state = {name: value.to(dtype).float() for name, value in published().items()}
    assert read(state).model == read(published()).model


def test_missing_and_unknown_frequencies_are_listed_like_weights():
    state = published()
    del state["backbone.mid_level.0.local_attn.pos_emb.spatial_freqs"]
    state["backbone.mid_level.0.global_attn.pos_emb.spatial_freqs"] = torch.zeros(2, 2, 2)
    with pytest.raises(InputError, match=r"(?s)missing: .*0\.local_attn\.pos_emb.*unknown: .*global_attn\.pos_emb"):
        read(state)
    state = published()
    state["backbone.mid_level.0.local_attn.pos_emb.spatial_freqs"] = torch.ones(3)
    with pytest.raises(InputError, match="the rotary frequencies match no known layout of RayDer"):
        read(state)


def test_a_number_of_heads_that_does_not_divide_the_width_is_refused():
    state = published()
    state["backbone.mid_level.0.global_attn.scale"] = torch.ones(5)
    with pytest.raises(InputError, match=f"5 heads .* do not divide a width of {WIDTH}"):
        read(state)


def test_missing_and_unknown_weights_are_listed():
    state = published()
    del state["backbone.mid_level.1.ff.register_norm.linear.weight"], state["intrinsics_head.norm.scale"]
    state["backbone.extra"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"(?s)2 weight\(s\) are missing: .*register_norm.*unknown: backbone\.extra"):
        read(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 48}, "width: config says 48, the weights say 32"),
        ({"depth": 3}, "depth: config says 3, the weights say 2"),
        ({"d_dynamic_state": 256}, "d_dynamic_state: config says 256, the weights say 6"),
        ({"down_up_configs": [[16, 1, [1, 4, 4]]]}, "down_up_configs: config says"),
    ],
)
def test_a_configuration_that_contradicts_the_weights_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        read(published(), **changes)


@pytest.mark.parametrize(
    ("views", "counts", "rendered"), [(5, {"n_in": 3, "n_target": 2}, 2), (4, {"n_target": 3}, 3), (6, {"n_in": 1}, 5)]
)
def test_outputs_of_any_batch_size_view_count_and_image_size(views, counts, rendered):
    model = build_imported(read(published()), source=Path("published"))
    image = torch.rand(2, views, 24, 40, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        outputs = RayDerWeights().reproduce(model, {"image": image}, configuration(**counts))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "R": (2, views, 3, 3), "t": (2, views, 3), "f": (2, views), "state": (2, views, STATE),
        "render_nostate": (2, rendered, 24, 40, 3), "render_state": (2, rendered, 24, 40, 3),
        "render_train_ar": (2, views - 1, 24, 40, 3),
    }  # fmt: skip
    assert all(torch.isfinite(value).all() for value in outputs.values())
    assert not torch.allclose(outputs["render_state"], outputs["render_nostate"])


def test_more_views_than_recorded_are_refused():
    model = build_imported(read(published()), source=Path("published"))
    for counts in ({}, {"n_in": 3, "n_target": 4}):
        with pytest.raises(InputError, match="do not fit the 5 recorded views; configure n_target"):
            RayDerWeights().reproduce(model, {"image": torch.zeros(1, 5, 8, 8, 3)}, configuration(**counts))


def test_a_table_of_gains_reproduces_the_recorded_outputs(shared: Path):
    """The projections of each norm are replaced by their 3 gains; test_golden.py tests the projections."""
    file = shared / "golden/rayder_tiny.safetensors"
    content = load_file(file)
    system, settings = read_setting(file)
    state = {key.removeprefix("state/"): value for key, value in content.items() if key.startswith("state/")}
    imported = system.read(state, settings)
    codes = LearnedCodes(width=imported.model["width"])
    codes.load_state_dict({name: imported.weights[f"codes.{name}"] for name in ("roles", "kinds")})
    weights = {name: value for name, value in imported.weights.items() if not name.startswith("codes.")}
    of_roles = [codes(role, torch.device("cpu")) for role in ROLES]
    for name, value in weights.items():
        if name.startswith("backbone") and name.split(".")[-2].endswith(("norm", "patches", "register")):
            chosen = [(code.register if name.endswith("register.weight") else code.patches)[0] for code in of_roles]
            if value.shape[-1] == chosen[0].shape[0]:
                weights[name] = torch.stack([value @ code for code in chosen], dim=1).detach()
    model = build_imported(Imported(imported.model | {"gains": "table"}, weights, imported.published), source=file)
    inputs = {key.removeprefix("in/"): value for key, value in content.items() if key.startswith("in/")}
    with torch.no_grad():
        outputs = system.reproduce(model, inputs, settings)
    for name, value in outputs.items():
        torch.testing.assert_close(value, content[f"out/{name}"], atol=ABSOLUTE, rtol=0)
