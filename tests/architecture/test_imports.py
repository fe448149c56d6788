"""Who may import whom; the table is the design."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOCKETS = {"interfaces", "types", "geometry", "layers"}
PARTS = (
    "attention", "cameras", "fusion", "layouts", "losses", "matchers", "objectives", "positions", "rasterisers",
    "renderers", "solvers", "tokenizers",
)  # fmt: skip
READS_DATA = {"interfaces", "types", "geometry", "settings", "machine"}
OF_DATA = {"data", "data.chunk_files", "data.loading", "data.pixels", "data.sampling", "data.sources"}
JUDGES = {"registry", *SOCKETS, "settings", "composer", "machine", "weights", "planning", *OF_DATA}
TRAINS = {"registry", "interfaces", "types", "layers", "settings", "machine", "weights", "weights.checkpoints"}
MAY_IMPORT = {  # room -> the rooms that it may import besides itself; openrayzer.data.loading is "data.loading"
    "registry": set(),
    "openrayzer": {"weights"},  # only when ``openrayzer.load_model`` is asked for
    "types": set(),
    "interfaces": {"registry", "types", "geometry"},
    "geometry": {"types"},
    "layers": {"interfaces", "types", "geometry"},
    "settings": {"interfaces"},
    "cli": {"registry", "openrayzer"},  # names of commands; their modules load when they are asked for
    "machine": {"interfaces", "layers"},
    "components": set(),
    **{f"components.{kind}": SOCKETS for kind in PARTS},  # parts never meet
    "models": SOCKETS,
    "composer": {"registry", "interfaces", "settings"},
    "data": READS_DATA | {"data.pixels", "data.sampling", "data.sources"},
    "data.sampling": READS_DATA,
    "data.pixels": READS_DATA,
    "data.augmentations": READS_DATA | {"data.pixels", "data.sampling"},
    "data.chunk_files": READS_DATA | {"data", "data.pixels"},
    "data.loading": READS_DATA | {"data", "data.pixels", "data.sampling"},
    "data.sources": READS_DATA | {"data", "data.pixels", "data.chunk_files", "data.synthetic_rooms"},
    "data.synthetic_rooms": READS_DATA | {"data.chunk_files"},
    "data.preparing": READS_DATA | OF_DATA,
    "data.commands": READS_DATA | OF_DATA | {"data.preparing"},
    "weights": {"registry", "interfaces", "types", "layers", "settings", "composer", "machine", "weights.checkpoints"},
    "weights.checkpoints": {"interfaces", "machine", "weights"},
    "weights.interop": SOCKETS | {"registry", "composer", "machine", "weights"},
    "weights.export": {"interfaces", "settings", "composer", "machine", "weights"},
    "planning": {"interfaces", "types", "layers", "settings", "composer", "data.loading", "machine", "weights"},
    "planning.cluster": {"interfaces", "types", "settings", "data.loading", "machine"},
    "evaluation.metrics": SOCKETS,
    "evaluation.report": {"interfaces", "machine", "evaluation.metrics"},
    "evaluation.results": {"interfaces", "machine", "evaluation.metrics", "evaluation.report"},
    "evaluation.trials": JUDGES | {"evaluation", "evaluation.metrics"},
    "evaluation.scenes": JUDGES | {"evaluation", "evaluation.metrics", "evaluation.results", "evaluation.trials"},
    "evaluation.baselines": JUDGES
    | {"evaluation"}
    | {f"evaluation.{room}" for room in ("metrics", "results", "scenes")},
    "evaluation.comparison": JUDGES | {"evaluation.metrics", "evaluation.results", "evaluation.report"},
    "evaluation.studies": JUDGES
    | {"evaluation", "evaluation.metrics", "evaluation.results", "evaluation.report", "evaluation.comparison"}
    | {"weights.checkpoints"},
    "evaluation": JUDGES
    | {"openrayzer"}
    | {f"evaluation.{room}" for room in ("baselines", "metrics", "report", "results", "scenes", "trials")},
    "video": {"registry", *SOCKETS, "composer", "machine", "weights", *OF_DATA},
    "web": {"registry", "interfaces", "types", "geometry", "video", "weights"}
    | {"data.pixels", "data.sources", "data.synthetic_rooms"},
    "training.logs": TRAINS | {"training", "data.pixels", "data.sampling", "evaluation.metrics"},
    "training.checkpointing": TRAINS | {"training", "training.logs"},
    "training.faults": TRAINS | {"training", "training.logs"},
    "training": TRAINS
    | {"data.loading", "training.logs", "training.checkpointing", "training.faults", "weights.export"}
    | {"evaluation", "evaluation.metrics", "evaluation.results", "evaluation.scenes"},
    "cli.commands": {"registry", "interfaces", "settings", "composer", "machine", "weights", "planning", "cli", "video"}
    | {"data.chunk_files", "data.commands", "data.preparing", "evaluation", "evaluation.comparison"}
    | {
        "evaluation.results",
        "evaluation.studies",
        "planning.cluster",
        "training",
        "training.faults",
        "weights.export",
        "weights.interop",
    },
    "benchmarks": SOCKETS
    | OF_DATA
    | {"cli", "components.attention", "composer", "data.commands", "data.preparing", "machine", "planning", "settings"}
    | {"training", "training.checkpointing", "weights.checkpoints"},
}
ONLY_THERE = {  # third-party package -> the only rooms that may import it
    "deepspeed": {
        "training",
        "training.checkpointing",
        "training.faults",
        "training.logs",
        "machine",
        "weights.checkpoints",
        "planning.cluster",
    },
    "jsonargparse": {"composer"},
    "xformers": {"components.attention"},
    "gsplat": {"components.rasterisers"},
    "timm": {"components.tokenizers"},
    "jinja2": {"evaluation.report", "evaluation.comparison", "evaluation.studies"},
    "av": {"data", "data.sources", "video", "benchmarks"},
    "trimesh": {"video"},
    "pycolmap": {"data.sources", "data.pixels", "evaluation.baselines"},
    "pillow_heif": {"data.pixels"},
    "huggingface_hub": {"weights", "weights.export"},
    "gradio": {"web"},
    "starlette": {"web"},
}
FILES = sorted([*ROOT.glob("registry/**/*.py"), *ROOT.glob("openrayzer/**/*.py")])


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SUB_ROOMS = {room.rpartition(".")[0] for room in MAY_IMPORT if "." in room}


def room(module: str) -> str:
    """The room that holds a module: "models" holds openrayzer.models.rayzer. Another package is a room of its own."""
    first, *rest = module.split(".")
    if first != "openrayzer" or not rest:
        return first
    inner = ".".join(rest[:2])
    return inner if rest[0] in SUB_ROOMS and inner in MAY_IMPORT else rest[0]


def imports(source: str, where: str) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: relative import"
            if str(node.module).partition(".")[0] == "openrayzer":  # from openrayzer.components import cameras
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def violations(module: str, source: str) -> list[str]:
    here, wrong = room(module), []
    for imported in imports(source, module):
        there = room(imported)
        first_party = imported.partition(".")[0] in ("registry", "openrayzer")
        if first_party and there != here and there not in MAY_IMPORT.get(here, set()):
            wrong.append(f"{module} imports {imported}")
        if here == "registry" and there != here and there not in sys.stdlib_module_names:
            wrong.append(f"{module} imports {imported}: registry/ is standard library only")
        if here not in ONLY_THERE.get(there, {here}):
            wrong.append(f"{module} imports {imported}: only {', '.join(sorted(ONLY_THERE[there]))} may")
    return wrong


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_package_is_in_the_table():
    unknown = {room(module_of(file)) for file in FILES} - MAY_IMPORT.keys()
    assert not unknown, f"decide what these may import: {sorted(unknown)}"


def test_imports_follow_the_table():
    wrong = [line for file in FILES for line in violations(module_of(file), file.read_text(encoding="utf-8"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("registry.registry", "import torch"),
        ("registry.registry", "from openrayzer.types import Views"),
        ("openrayzer.models.rayzer", "from openrayzer.components.cameras.pi3 import Pi3Head"),
        ("openrayzer.models.rayzer", "def f():\n    from openrayzer.components import cameras"),
        ("openrayzer.components.fusion.pixel", "from openrayzer.components import cameras"),
        ("openrayzer.evaluation.evaluate", "from openrayzer.training.engine import Engine"),
        ("openrayzer.weights.finding", "from openrayzer import training"),
        ("openrayzer.data.loading.clips", "from openrayzer.data.sources.chunks import Chunks"),
        ("openrayzer.components.cameras.pi3", "import openrayzer.models"),
        ("openrayzer.training.loop", "from openrayzer.composer import load_experiment"),
        ("openrayzer.models.rayzer", "import xformers.ops"),
        ("openrayzer.composer.build", "from deepspeed import zero"),
    ],
)
def test_a_planted_violation_is_caught(module, source):
    assert violations(module, source)


def test_nothing_imports_the_tools_or_the_tests():
    tools = {file.stem for file in ROOT.glob("tools/*.py")} | {"tools", "tests"}
    for file in FILES:
        assert not tools & {name.partition(".")[0] for name in imports(file.read_text(encoding="utf-8"), str(file))}


def test_nothing_shadows_the_registry_package():
    shadows = [*ROOT.glob("registry.py"), *ROOT.glob("tools/registry*"), *ROOT.glob("tests/**/__init__.py")]
    assert not shadows, shadows


def test_importing_registry_pulls_in_nothing_but_the_standard_library():
    loaded = run("import sys, registry; print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert "registry" in loaded
    assert not {"torch", "jsonargparse", "numpy", "openrayzer"} & set(loaded)


def test_importing_the_interfaces_starts_nothing():
    code = """
import sys, warnings
import openrayzer.interfaces, openrayzer.settings, openrayzer.composer, openrayzer.cli
import torch
names = ("deepspeed", "xformers", "timm", "wandb", "cv2", "av", "pycolmap")
names += ("openrayzer.models", "openrayzer.data", "openrayzer.training")
print([name for name in names if name in sys.modules])
print(torch.cuda.is_initialized(), torch.distributed.is_initialized())
"""
    assert run(code).splitlines() == ["[]", "False False"]


def test_looking_up_components_imports_neither_deepspeed_nor_starts_a_process_group():
    code = """
import sys
from openrayzer.interfaces import REGISTRIES
print(sum(len(registry) for registry in REGISTRIES) > 0)
import torch
print("deepspeed" in sys.modules, torch.cuda.is_initialized(), torch.distributed.is_initialized())
"""
    assert run(code).splitlines()[-2:] == ["True", "False False False"]


def test_the_page_for_contributors_shows_the_same_table():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## What a change")[0]
    may: dict[str, set[str]] = {}
    for room, rooms in MAY_IMPORT.items():
        first = room.partition(".")[0]
        may.setdefault(first, set()).update(other.partition(".")[0] for other in rooms)
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*?) ?\|$", page, flags=re.MULTILINE))
    assert rows.keys() == may.keys() - {"registry", "openrayzer"}
    for room, text in rows.items():
        expected = may[room] - {room, "registry", "openrayzer"}
        if text.startswith("everything but"):
            assert expected == rows.keys() - set(re.findall(r"`(\w+)`", text)) - {room}
        else:
            assert set(re.findall(r"`(\w+)`", text)) == expected, room
