"""The code blocks of README and of the documentation site work, or a comment before them says why no test runs them."""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from page_blocks import PAGES, ROOT, Block, blocks_of, commands_of, problem_of

from openrayzer.composer import construct, load_experiment
from openrayzer.interfaces import REGISTRIES
from openrayzer.types import Cameras
from openrayzer.weights.weight_folder import WEIGHTS, write_weights

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMAND = re.compile(r"`((?:python tools/|deepspeed |torchrun |openrayzer )[^`]+)`")
SMALL = (
    "model.solver.starts=2",
    "model.solver.focal_starts=2",
    "model.solver.fine_steps=3",
    "data.image_size=[32, 32]",
)
"""Changes of rayzer_demo for models that compute fast."""
CALLED = ("runs/rayzer_demo", "runs/NAME", "my-model")
"""Names of models on the pages."""
PLACEHOLDERS = {"...", "COMMAND"}
"""Words of abbreviated commands, which are no commands to type."""


def blocks(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and not block.reason]


@pytest.mark.parametrize("block", blocks("bash"), ids=lambda block: block.name)
def test_commands_are_understood(block: Block):
    assert {" ".join(words): problem for words in commands_of(block.text) if (problem := problem_of(words))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_sentences_and_tables_are_understood(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [words for line in COMMAND.findall(text) for words in commands_of(line) if not PLACEHOLDERS & set(words)]
    named = [words for words in found if len(words) > 2]  # a name alone is no command
    assert {" ".join(words): problem for words in named if (problem := problem_of(words))} == {}


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("python tools/render_video.py --run r --images p --output o.mp4 --colour", "unrecognized arguments: --colour"),
        ("python tools/render_vidoe.py --run r", "there is no tools/render_vidoe.py"),
        ("deepspeed tools/train.py --exp experiments/rayzer_demo.json --set train.stepz=1", "did you mean 'steps'"),
        ("torchrun --nproc_per_node 2 -m openrayzer.cli trian --exp x", "no command 'trian'"),
        ("pip install -e '.[vidoe]'", "no extras named"),
        ("python -m pytest tests/nowhere", "do not exist"),
        ("frobnicate photos", "no check knows the command 'frobnicate'"),
    ],
)
def test_a_wrong_command_is_found(command: str, problem: str):
    (words,) = commands_of(command)
    assert problem in problem_of(words)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Geometric RayZer with random weights, under every name that the pages use."""
    root = tmp_path_factory.mktemp("reader")
    plan = load_experiment(ROOT / "experiments/rayzer_demo.json", overrides=SMALL)
    torch.manual_seed(0)
    model = construct(plan.plan.arguments["model"])
    for name in CALLED:
        (root / name).mkdir(parents=True)
        (root / name / "experiment.json").write_text(json.dumps(plan.resolved))
        write_weights(model, root / name / WEIGHTS)
    return root


def given() -> dict[str, Any]:
    """The variables that a reader has, by the names on the pages."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(3, 3, 6, 6, generator=generator), size=(32, 32))[None]
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = 0.1
    cameras = Cameras(poses, torch.tensor([1.2, 1.2, 0.5, 0.5]).repeat(1, 2, 1))
    return {
        "images": images,
        "more_images": images[:, :2],
        **dict.fromkeys(("path", "new_cameras", "more_cameras"), cameras),
        "intrinsics": torch.tensor([1.2, 1.2, 0.5, 0.5]).repeat(1, 3, 1),
    }


def pages_of_python() -> dict[str, list[Block]]:
    """The blocks that a reader types, by page; whole files of a component have tests of their own."""
    found = defaultdict(list)
    for block in blocks("python"):
        if not is_file(block):
            found[block.page].append(block)
    return dict(found)


def is_file(block: Block) -> bool:
    """Whether a recipe of CONTRIBUTING.md or README has this block, so that other tests of this folder use it."""
    named = re.search(r"(New file|Add to) `[^`]+`:\n\n$", block.before) or "new file `" in block.before[-200:].lower()
    return bool(block.page == "CONTRIBUTING.md" and named) or (block.page == "README.md" and "register" in block.text)


@pytest.mark.parametrize("page", pages_of_python())
def test_python_blocks_run(page: str, run: Path, monkeypatch: pytest.MonkeyPatch):
    """The blocks of a page run one after the other, as a reader types them."""
    monkeypatch.chdir(run)
    names = given()
    with unchanged_registries():
        for block in pages_of_python()[page]:
            code = compile("\n" * (block.line - 1) + block.text.replace("120", "2"), block.page, "exec")
            exec(code, names)


@contextlib.contextmanager
def unchanged_registries() -> Iterator[None]:
    """Components that a block registers are forgotten at the end."""
    with contextlib.ExitStack() as stack:
        for registry in REGISTRIES:
            first = next(iter(registry))
            stack.enter_context(registry.temporarily(first.name, first.target))
        yield


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.name)
def test_json_blocks_name_components_and_their_parameters(block: Block, tmp_path: Path):
    value = json.loads(block.text if block.text.lstrip().startswith("{") else f"{{{block.text}}}")
    for part in parts_of(value) if "plugins" not in value else ():  # the README's plugin has a test of its own
        candidates = [entry for registry in REGISTRIES for entry in registry if entry.name == part["type"]]
        known = [{"type", *(parameter.name for parameter in entry.parameters)} for entry in candidates]
        assert any(part.keys() <= names for names in known), part
    if "extends" in value and "plugins" not in value:
        value["extends"] = str(ROOT / value["extends"])
        (tmp_path / "experiment.json").write_text(json.dumps(value))
        load_experiment(tmp_path / "experiment.json")


def parts_of(value: object) -> Iterator[dict]:
    """Every component in a JSON value."""
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts_of(part)


def test_a_block_without_a_check_has_a_reason_or_names_its_own_test():
    reasons = {block.name: block.reason for block in BLOCKS if block.reason}
    named = {name: reason for name, reason in reasons.items() if not reason.startswith("needs ")}
    assert [name for name, file in named.items() if not (ROOT / file).is_file()] == []
