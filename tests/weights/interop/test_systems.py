"""Each system: sizes read from weights, required settings, contradictions, and the effect of every setting."""

import math
import re
from pathlib import Path

import pytest
import torch
from published import HEAD, LATENTS, PATCH, WIDTH, lvsm, open_rayzer, open_rayzer_config, rayzer_official
from torch import Tensor

from openrayzer.composer import construct, plan
from openrayzer.interfaces import REGISTRIES, InputError, Model
from openrayzer.types import Cameras, Views
from openrayzer.weights.interop.configuration import Configuration
from openrayzer.weights.interop.golden import build_imported
from openrayzer.weights.interop.system import Imported
from openrayzer.weights.interop.systems import SYSTEMS, check_belongs, system_named

MIDDLE = {"model": {"pose_latent": {"canonical": "middle"}}}


def imported(name: str, state: dict[str, Tensor], config: dict | None = None, *, whole: bool = False) -> Imported:
    return SYSTEMS[name].read(state, Configuration(config or {}, source="test.yaml", whole=whole))


def model_of(name: str, state: dict[str, Tensor], config: dict | None = None) -> Model:
    return build_imported(imported(name, state, config), source=Path("weights.pt"))


def clips(*, num_views: int = 4, cameras: bool = False, size: tuple[int, int] = (16, 16)) -> Views:
    """Return two clips; the last view is the target."""
    generator = torch.Generator().manual_seed(0)
    known = Cameras(torch.eye(4).repeat(2, num_views, 1, 1), torch.rand(2, num_views, 4, generator=generator) + 0.5)
    places = torch.arange(num_views).repeat(2, 1)
    return Views(
        images=torch.rand(2, num_views, 3, *size, generator=generator),
        frames=places,
        context=places[:, :-1],
        target=places[:, -1:],
        scenes=("attic", "cellar"),
        cameras=known if cameras else None,
    )


def test_sizes_are_read_from_the_weights():
    model = imported("rayzer-official", rayzer_official(), MIDDLE).model
    assert (model["width"], model["num_heads"], model["patch_size"]) == (WIDTH, WIDTH // HEAD, PATCH)
    assert (model["estimator_depth"], model["encoder_depth"], model["renderer"]["depth"]) == (1, 2, 3)
    assert (model["num_latents"], model["mlp_ratio"], model["qk_norm_eps"]) == (LATENTS, 4.0, 1e-5)
    assert imported("lvsm-d", lvsm(decoder_only=True)).model["renderer"]["depth"] == 3
    assert imported("lvsm-ed", lvsm()).model["encoder_depth"] == 2
    open_model = imported("open-rayzer", open_rayzer(), open_rayzer_config()).model
    assert (open_model["estimator_depth"], open_model["encoder_depth"], open_model["renderer"]["depth"]) == (2, 1, 3)


def test_all_values_that_the_weights_do_not_show_are_listed_at_once():
    with pytest.raises(InputError) as caught:
        imported("open-rayzer", open_rayzer())
    lines = str(caught.value).splitlines()
    assert lines[0] == "the weights do not show these values; give them with --config FILE or --given KEY=VALUE:"
    keys = {line.split()[0] for line in lines[1:]}
    assert keys == {
        "model.transformer.rope", "model.transformer.vggstyle", "model.transformer.rope_freq", "unposed.predict_fov",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"model.pose_latent.canonical \(the reference view.*one of first, middle"):
        imported("rayzer-official", rayzer_official())
    with pytest.raises(InputError, match=r"model.transformer.d_head \(width of one attention head\): a whole number"):
        imported("rayzer-official", rayzer_official(normed=False), MIDDLE)


def test_a_key_that_a_whole_configuration_leaves_out_takes_the_published_default():
    model = imported("rayzer-official", rayzer_official(), {"model": {}}, whole=True).model
    assert model["camera_head"]["canonical"] == "first"
    config = open_rayzer_config()
    del config["model"]["transformer"]["rope_freq"]
    assert imported("open-rayzer", open_rayzer(), config, whole=True).model["position_encoding"]["base"] == 100.0


def test_defaults_are_noted_and_unknown_keys_are_refused():
    configuration = Configuration({"model": {}}, source="test.yaml", whole=True)
    SYSTEMS["rayzer-official"].read(rayzer_official(), configuration)
    taken = "model.pose_latent.canonical is not configured: uses first, the default of the published code"
    assert configuration.notes == [taken]
    with pytest.raises(InputError, match=r"test.yaml has none of these keys: .*; it seems to belong to another system"):
        configuration.check_used()
    for stray in ("model.pose_latent.cannonical", "model.pose_latent"):
        given = Configuration(MIDDLE, source="--given", whole=False, given=[stray])
        SYSTEMS["rayzer-official"].read(rayzer_official(), given)
        with pytest.raises(InputError, match=f"--given {stray}: this system has no such key; its keys are .*canonical"):
            given.check_used()


@pytest.mark.parametrize(
    ("name", "state", "key", "value", "message"),
    [
        ("rayzer-official", rayzer_official(), "transformer.d", 32, "d: test.yaml says 32, the weights say 16"),
        ("rayzer-official", rayzer_official(), "transformer.encoder_n_layer", 8, "says 8, the weights say 1"),
        ("rayzer-official", rayzer_official(), "input_with_pe", False, "says False, the weights say True"),
        ("rayzer-official", rayzer_official(), "pose_latent.representation", "quat", "'quat', the weights have 6"),
        ("rayzer-official", rayzer_official(), "pose_latent.canonical", "last", "'last', supported are first, middle"),
        ("rayzer-official", rayzer_official(), "image_tokenizer.patch_size", 8, "says 8, the weights say 4"),
        ("lvsm-ed", lvsm(), "transformer.n_latent_vectors", 7, "says 7, the weights say 5"),
        ("lvsm-d", lvsm(decoder_only=True), "transformer.n_layer", 24, "says 24, the weights say 3"),
        ("open-rayzer", open_rayzer(), "transformer.rope_freq", -1, "says -1, expected a number above 0"),
        ("open-rayzer", open_rayzer(), "transformer.vggstyle", "yes", "says 'yes', supported are true, false"),
    ],
)
def test_a_configuration_that_contradicts_the_weights_is_refused(name, state, key, value, message):
    section, _, leaf = key.rpartition(".")
    config = open_rayzer_config() if name == "open-rayzer" else {"model": {"pose_latent": {"canonical": "middle"}}}
    inner = config["model"].setdefault(section, {}) if section else config["model"]
    inner[leaf] = value
    with pytest.raises(InputError, match=re.escape(message)):
        imported(name, state, config)


@pytest.mark.parametrize("name", ["rayzer-official", "lvsm-ed", "lvsm-d", "open-rayzer"])
def test_missing_and_unknown_weights_are_listed(name: str):
    state, config = {
        "rayzer-official": (rayzer_official(), MIDDLE),
        "lvsm-ed": (lvsm(), {}),
        "lvsm-d": (lvsm(decoder_only=True), {}),
        "open-rayzer": (open_rayzer(), open_rayzer_config()),
    }[name]
    changed = dict(state)
    gone = next(key for key in state if key.endswith("0.mlp.mlp.2.weight"))
    del changed[gone]
    changed["extra.weight"] = torch.zeros(1)
    with pytest.raises(InputError) as caught:
        imported(name, changed, config)
    assert f"1 weight(s) are missing: {gone}" in str(caught.value)
    assert "1 weight(s) are unknown: extra.weight" in str(caught.value)


def test_missing_weights_are_listed_even_if_sizes_are_read_from_them():
    state = rayzer_official()
    for name in ("transformer_encoder.0.mlp.mlp.0.weight", "scene_code", "cam_code"):
        del state[name]
    with pytest.raises(InputError, match=r"3 weight\(s\) are missing: scene_code, cam_code, transformer_encoder.0.mlp"):
        imported("rayzer-official", state, MIDDLE)


def test_blocks_without_rotary_encoding_contradict_rope():
    with pytest.raises(InputError, match=r"model.transformer.rope: test.yaml says True, the weights say False"):
        imported("open-rayzer", open_rayzer(rotary=False), open_rayzer_config())
    config = open_rayzer_config()
    del config["model"]["transformer"]["rope"], config["model"]["transformer"]["rope_freq"]
    assert imported("open-rayzer", open_rayzer(rotary=False), config).model["position_encoding"] == {"type": "none"}


def test_several_camera_tokens_are_refused():
    state = rayzer_official()
    state["cam_code"] = torch.zeros(2, WIDTH)
    with pytest.raises(InputError, match="cam_code holds 2 camera tokens, the published code uses exactly one"):
        imported("rayzer-official", state, MIDDLE)


def test_the_published_field_of_view_spans_the_height():
    model = model_of("open-rayzer", open_rayzer(), open_rayzer_config())
    fx, fy, cx, cy = model.estimate(clips(size=(16, 40)).images).intrinsics.unbind(-1)
    torch.testing.assert_close(fx * 40, fy * 16)
    torch.testing.assert_close(cx * 40, torch.full_like(cx, 8.0))  # half the height from the left
    torch.testing.assert_close(cy * 16, torch.full_like(cy, 8.0))


def test_a_weight_of_another_shape_is_refused():
    state = rayzer_official()
    state["mlp_fuse.3.bias"] = torch.zeros(3)
    with pytest.raises(
        InputError, match=r"weights.pt do not fit the model: mlp_fuse.3.bias has shape \(3,\) instead of \(16,\)"
    ):
        model_of("rayzer-official", state, MIDDLE)


def test_weights_of_another_system_are_recognised():
    with pytest.raises(
        InputError, match="these are weights of 'lvsm-ed', not of 'rayzer-official': use --arch lvsm-ed"
    ):
        check_belongs(lvsm(), SYSTEMS["rayzer-official"])
    with pytest.raises(InputError, match=r"these are not weights of 'rayder': .* is not among their 1 names: a"):
        check_belongs({"a": torch.zeros(1)}, SYSTEMS["rayder"])
    with pytest.raises(InputError, match="no published system named 'rayzer'; did you mean 'erayzer' or 'rayder'"):
        system_named("rayzer")
    own = {
        "rayzer-official": rayzer_official(), "lvsm-ed": lvsm(), "lvsm-d": lvsm(decoder_only=True),
        "open-rayzer": open_rayzer(),
    }  # fmt: skip
    for name, state in own.items():
        assert [system.name for system in SYSTEMS.values() if system.owns(state)] == [name]


@pytest.mark.parametrize(("rotary", "style"), [(True, False), (False, True), (False, False)])
def test_without_rope_or_vggstyle_poses_come_from_single_images_as_published(rotary: bool, style: bool):
    config = open_rayzer_config(rope=rotary, vggstyle=style)
    found = imported("open-rayzer", open_rayzer(rotary=rotary), config)
    assert found.model["layout"] == {"type": "frame"}
    assert found.model["qk_norm_eps"] == found.model["renderer"]["qk_norm_eps"] == (1e-5 if rotary else 1e-3)
    model = build_imported(found, source=Path("w"))
    views = clips()
    before = model.estimate(views.images).c2w[:, 0]
    views.images[:, 1:] = 0.3
    assert torch.equal(model.estimate(views.images).c2w[:, 0], before)


def test_with_rope_and_vggstyle_poses_depend_on_all_images():
    model, views = model_of("open-rayzer", open_rayzer(), open_rayzer_config()), clips()
    before = model.estimate(views.images).c2w[:, 0]
    views.images[:, 1:] = 0.3
    assert (model.estimate(views.images).c2w[:, 0] - before).abs().max() > 1e-3


@pytest.mark.parametrize("stored", [True, False])
def test_given_fields_of_view_are_used_and_the_network_for_them_is_left_out(stored: bool):
    config = open_rayzer_config(predict_fov=False)
    found = imported("open-rayzer", open_rayzer(fov=stored), config)
    assert bool(found.notes) == stored
    model, views = build_imported(found, source=Path("w")), clips(cameras=True)
    assert model.needs_intrinsics
    assert views.cameras is not None
    assert torch.equal(model(views).cameras.intrinsics, views.cameras.intrinsics)


def test_the_shared_ray_tokenizer_is_one_weight_whether_stored_once_or_twice():
    twice = open_rayzer(fusion="feature_fuse", shared=True)
    once = {name: value for name, value in twice.items() if name != "pose_tokenizer.1.weight"}
    rendered = []
    for state in (twice, once):
        config = open_rayzer_config()
        if state is once:
            with pytest.raises(InputError, match=r"unposed.decoder_as_canonical \(one tokenizer"):
                imported("open-rayzer", state, config)
            config["unposed"]["decoder_as_canonical"] = True
        model = model_of("open-rayzer", state, config)
        assert model.scene.target_rays is model.fusion.rays
        rendered.append(model(clips()).images)
    assert torch.equal(*rendered)
    own = model_of("open-rayzer", open_rayzer(fusion="feature_fuse"), open_rayzer_config())
    assert own.scene.target_rays is not own.fusion.rays


@pytest.mark.parametrize(("rotation", "head"), [(6, "rot6d"), (4, "quaternion")])
@pytest.mark.parametrize(("canonical", "chosen"), [("first", 0), ("middle", 2)])
def test_official_rotations_and_canonical_views(rotation: int, head: str, canonical: str, chosen: int):
    config = {"model": {"pose_latent": {"canonical": canonical}}}
    found = imported("rayzer-official", rayzer_official(rotation=rotation), config)
    assert found.model["camera_head"]["type"] == head
    c2w = build_imported(found, source=Path("w")).estimate(clips().images).c2w
    rotations = c2w[..., :3, :3]
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), atol=1e-5, rtol=0)
    assert [view for view in range(4) if torch.equal(c2w[0, view], torch.eye(4))] == [chosen]


def test_the_official_focal_length_is_in_units_of_each_side_and_unbounded():
    state = rayzer_official()
    state["pose_predictor.canonical_k_head.2.weight"] *= 0
    state["pose_predictor.canonical_k_head.2.bias"][:] = -1.5
    cameras = model_of("rayzer-official", state, MIDDLE).estimate(clips(size=(16, 24)).images)
    torch.testing.assert_close(cameras.intrinsics, torch.tensor([-0.25, -0.25, 0.5, 0.5]).expand(2, 4, 4))


def test_without_input_with_pe_patches_get_no_position():
    model = model_of("rayzer-official", rayzer_official(embedded=False), MIDDLE)
    tokens = torch.zeros(1, 3, 16, WIDTH)
    index = torch.arange(3)[None]
    assert torch.equal(model.position_encoding.embed_patches(tokens, (4, 4), index), tokens)
    added = model.position_encoding.embed_cameras(tokens[:, :, :1], index)[0, 1, 0]
    assert [added[0].item(), added[WIDTH // 2].item()] == pytest.approx([math.sin(1), math.cos(1)])


def published_shapes(listing: Path, start: str = "", end: str = "### ") -> dict[str, Tensor]:
    """Return expanded zeros of the shapes in a list of weights, from the line after ``start`` on."""
    lines = listing.read_text(encoding="utf-8").splitlines()
    first = next((number for number, line in enumerate(lines) if start and line.startswith(start)), -1) + 1
    state = {}
    for line in lines[first:]:
        if line.startswith(end):
            break
        name, shape, *_ = line.split("\t")
        state[name] = torch.zeros(()).expand([int(size) for size in re.findall(r"\d+", shape)])
    return state


@pytest.mark.parametrize(
    ("name", "listing", "start", "config", "parameters"),
    [
        ("rayzer-official", "state_dict_rayzer_official.txt", "", MIDDLE, 238_359_818),
        ("open-rayzer", "state_dict_open_rayzer.txt", "", open_rayzer_config(), 180_349_453),
        ("lvsm-d", "state_dict_lvsm.txt", "### LVSM_scene_decoder_only", {}, 170_795_520),
        ("lvsm-ed", "state_dict_lvsm.txt", "### LVSM_scene_encoder_decoder", {}, 173_154_816),
    ],
)
def test_released_sizes_have_the_published_number_of_parameters(shared: Path, name, listing, start, config, parameters):
    found = imported(name, published_shapes(shared / "spec" / listing, start), config)
    with torch.device("meta"):
        model = construct(plan(found.model, Model, registries=REGISTRIES))
    shapes = {weight: value.shape for weight, value in model.named_parameters()}
    assert {weight: value.shape for weight, value in found.weights.items()} == shapes
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters
