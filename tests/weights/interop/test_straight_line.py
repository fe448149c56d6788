"""Our models agree with independent code for each published system, for every setting and non-square images.

The code in ``straight_line`` reproduces the recordings of the published code. For settings and inputs without a
recording, it provides the expected outputs.
"""

import ast
import json
from pathlib import Path

import pytest
import torch
from einops import rearrange
from published import Sizes
from published_rayder import RayDerSizes
from recordings import (
    FORWARD,
    GOLDEN,
    Setup,
    efficient_lvsm_setup,
    gradient_norm,
    learned,
    less3depend_setup,
    lvsm_setup,
    open_rayzer_setup,
    rayder_setup,
    rayzer_official_setup,
    record,
    write,
)
from safetensors import safe_open
from safetensors.torch import load_file
from straight_line import rayder as straight_rayder
from torch import Tensor

from openrayzer.types import Views
from openrayzer.weights.interop.golden import ABSOLUTE, BY_RATIO, RELATIVE, build_imported, compare, read_setting

HERE = Path(__file__).parent

OTHER = Sizes(width=48, head=12, patch=8, latents=7)
"""Four heads; their width is not a power of 2."""
WIDE, TALL = (16, 40), (40, 16)

OFFICIAL = {
    "as released": {},
    "first view canonical": {"canonical": "first"},
    "quaternions": {"rotation": 4},
    "quaternions, first view canonical": {"rotation": 4, "canonical": "first"},
    "no position codes": {"embedded": False},
    "no query-key norm": {"normed": False},
    "views of its own for each clip": {"context": ((0, 1, 3), (0, 2, 4)), "target": ((2, 4), (1, 3))},
    "wide": {"size": WIDE},
    "tall": {"size": TALL},
    "four heads, other depths": {"sizes": OTHER, "depths": (3, 1, 2), "size": (32, 32)},
    "one head": {"sizes": Sizes(head=16), "depths": (2, 2, 1)},
    "even number of views": {"num_views": 6},
}
OPEN_RAYZER = {
    "as released": {},
    "no rotary encoding": {"rotary": False},
    "no alternating layers": {"style": False},
    "neither": {"rotary": False, "style": False},
    "no query-key norm": {"normed": False},
    "no query-key norm, no rotary encoding": {"normed": False, "rotary": False},
    "rotary base of 10": {"frequency": 10},
    "given field of view": {"fov": False},
    "given field of view, fused tokens": {"fov": False, "fusion": "feature_fuse"},
    "fused tokens": {"fusion": "feature_fuse"},
    "fused tokens, one ray tokenizer": {"fusion": "feature_fuse", "shared": True},
    "fused pixels, one ray tokenizer": {"shared": True},
    "odd depth": {"depths": (3, 2, 1)},
    "wide": {"size": WIDE},
    "tall": {"size": TALL},
    "wide, given field of view": {"size": WIDE, "fov": False},
    "tall, fused tokens": {"size": TALL, "fusion": "feature_fuse"},
    "four heads, other depths": {"sizes": OTHER, "depths": (4, 1, 2), "size": (24, 24), "counts": (4, 1)},
}
LVSM = {
    "as released": {},
    "wide": {"size": WIDE},
    "tall": {"size": TALL},
    "no query-key norm": {"normed": False},
    "targets among the contexts": {"num_views": 3},
    "four heads, other depths": {"sizes": OTHER, "size": (16, 24), "counts": (4, 1), "num_views": 5},
}
EFFICIENT = {
    "as released": {},
    "wide": {"size": WIDE},
    "tall": {"size": TALL},
    "no query-key norm": {"normed": False},
    "views of its own for each clip": {"context": ((0, 1, 3), (0, 2, 4)), "target": ((2, 4), (1, 3))},
    "targets among the contexts, view after view": {"target": ((0, 4),), "increments": (1, 1, 1)},
    "four heads, one block": {"sizes": OTHER, "size": (16, 24), "depth": 1},
}
RAYDER = {
    "two levels, several heads": {"sizes": RayDerSizes()},
    "one level": {
        "sizes": RayDerSizes(levels=((16, 3, 4),), depth=1, state_width=40), "num_views": 6, "counts": (2, 3),
    },
    "three levels": {"sizes": RayDerSizes(levels=((16, 1, 1), (16, 2, 2), (32, 1, 2)), width=48, depth=3)},
    "wide": {"sizes": RayDerSizes(levels=((16, 1, 2), (16, 1, 2)), state_width=10), "size": (32, 56)},
    "tall": {"sizes": RayDerSizes(levels=((16, 2, 2), (16, 1, 2)), state_width=3), "size": (56, 32), "num_views": 4},
    "heads as wide as released": {
        "sizes": RayDerSizes(levels=((64, 1, 4), (128, 1, 2)), width=192, head=64, state_width=16), "size": (64, 64),
    },
}  # fmt: skip


def assert_reproduced(file: Path, setup: Setup) -> None:
    """Check that our model reproduces every recorded output."""
    arch, rows = compare(file)
    assert arch == setup.arch
    assert {row.name for row in rows} == {name[4:] for name in load_file(file) if name.startswith("out/")}
    for row in rows:
        assert row.tolerance == (RELATIVE if row.name in BY_RATIO else ABSOLUTE)
        assert row.passed, row


def setup_of(file: Path) -> tuple[Setup, dict[str, Tensor]]:
    """Read a golden file; return its setup and its recorded outputs."""
    with safe_open(file, "pt") as content:
        said = json.loads(content.metadata()["config"])
    parts: dict[str, dict[str, Tensor]] = {"state": {}, "in": {}, "out": {}}
    for name, value in load_file(file).items():
        part, _, leaf = name.partition("/")
        parts[part][leaf] = value
    return Setup(said["arch"], parts["state"], parts["in"], said["config"]), parts["out"]


@pytest.mark.parametrize("name", GOLDEN)
def test_straight_line_code_reproduces_the_recordings_of_the_published_code(shared: Path, name: str):
    file = shared / f"golden/{name}.safetensors"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    setup, recorded = setup_of(file)
    outputs = setup.outputs()
    assert outputs.keys() == recorded.keys()
    for key, value in outputs.items():
        relative = RELATIVE if key in BY_RATIO else 0.0
        torch.testing.assert_close(value.reshape(recorded[key].shape), recorded[key], atol=ABSOLUTE, rtol=relative)


def test_straight_line_code_imports_nothing_from_the_project():
    for file in HERE.glob("straight_line/*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("openrayzer", "registry")) for name in names), file.name


@pytest.mark.parametrize("title", OFFICIAL)
def test_rayzer_official_agrees_with_straight_line_code(tmp_path: Path, title: str):
    setup = rayzer_official_setup(**OFFICIAL[title])
    assert_reproduced(record(tmp_path, setup), setup)


@pytest.mark.parametrize("title", OPEN_RAYZER)
def test_open_rayzer_agrees_with_straight_line_code(tmp_path: Path, title: str):
    setup = open_rayzer_setup(**OPEN_RAYZER[title])
    assert_reproduced(record(tmp_path, setup), setup)


@pytest.mark.parametrize("title", LVSM)
@pytest.mark.parametrize("decoder_only", [False, True])
def test_lvsm_agrees_with_straight_line_code(tmp_path: Path, title: str, decoder_only: bool):
    setup = lvsm_setup(**LVSM[title], decoder_only=decoder_only)
    assert_reproduced(record(tmp_path, setup), setup)


@pytest.mark.parametrize("title", EFFICIENT)
def test_efficient_lvsm_agrees_with_straight_line_code(tmp_path: Path, title: str):
    setup = efficient_lvsm_setup(**EFFICIENT[title])
    assert_reproduced(record(tmp_path, setup), setup)


@pytest.mark.parametrize("title", RAYDER)
def test_rayder_agrees_with_straight_line_code(tmp_path: Path, title: str):
    setup = rayder_setup(**RAYDER[title])
    assert_reproduced(record(tmp_path, setup), setup)


@pytest.mark.parametrize("title", RAYDER)
def test_rayder_has_the_same_training_gradient(tmp_path: Path, title: str):
    """The published code uses one masked pass over all views, ours two passes; images in [-1, 1]."""
    setup = rayder_setup(**RAYDER[title])
    image, state = setup.inputs["image"], learned(setup.state)
    render = straight_rayder.training_render(state, image, straight_rayder.estimate(state, image))
    loss = (render - image[:, 1:]).square().mean()

    system, configuration = read_setting(write(tmp_path / "setting.safetensors", setup, {}))
    model = build_imported(system.read(setup.state, configuration), source=tmp_path).train()
    model.state_dropout = 0.0
    prediction = model(rayder_views(image))
    ours = (2 * prediction.images - 1 - rearrange(image[:, 1:], "b t h w c -> b t c h w")).square().mean()
    torch.testing.assert_close(ours, loss, atol=0, rtol=RELATIVE)
    norms = gradient_norm(ours, list(model.parameters())), gradient_norm(loss, list(state.values()))
    torch.testing.assert_close(*norms, atol=0, rtol=RELATIVE)


def rayder_views(image: Tensor) -> Views:
    """Return views; all except the last are context, all except the first are targets."""
    places = torch.arange(image.shape[1]).expand(image.shape[0], -1)
    return Views(
        images=(rearrange(image, "b t h w c -> b t c h w") + 1) / 2,
        frames=places,
        context=places[:, :-1],
        target=places[:, 1:],
        scenes=("attic", "cellar"),
        cameras=None,
    )


SETUPS = {
    "rayzer-official": rayzer_official_setup,
    "open-rayzer": open_rayzer_setup,
    "lvsm-ed": lvsm_setup,
    "lvsm-d": lambda: lvsm_setup(decoder_only=True),
    "rayder": lambda: rayder_setup(RayDerSizes()),
    "efficient-lvsm": efficient_lvsm_setup,
    "uplvsm": lambda: less3depend_setup("uplvsm"),
    "ptlvsm": lambda: less3depend_setup("ptlvsm"),
}


@pytest.mark.parametrize("arch", FORWARD)
def test_a_changed_weight_changes_every_output(tmp_path: Path, arch: str):
    setup = SETUPS[arch]()
    file = record(tmp_path, setup)
    outputs = {name.removeprefix("out/"): value for name, value in load_file(file).items() if name.startswith("out/")}
    own = [name for name in setup.state if "dino" not in name]
    some = next(name for name in own if name.endswith(("0.attn.q_norm.weight", "0.self_attn.scale")))
    changed = setup.state | {some: setup.state[some].flip(0) * 3}
    write(file, Setup(arch, changed, setup.inputs, setup.config), outputs)
    assert not any(row.passed for row in compare(file)[1] if row.name not in ("loss", "fxfycxcy"))
