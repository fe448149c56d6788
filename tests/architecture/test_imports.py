"""Who may import whom; the table is the design."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOCKETS = {"openrayzer.interfaces", "openrayzer.types", "openrayzer.geometry", "openrayzer.layers"}
MAY_IMPORT = {  # package -> first-party packages it may import besides itself
    "registry": set(),
    "openrayzer": {"openrayzer.weights.loading"},  # only when ``openrayzer.load_model`` is asked for
    "openrayzer.types": set(),
    "openrayzer.geometry": {"openrayzer.types"},
    "openrayzer.interfaces": {"registry", "openrayzer.types"},
    "openrayzer.settings": {"openrayzer.interfaces"},
    "openrayzer.machine": {"openrayzer.interfaces"},
    "openrayzer.cli": {"registry", "openrayzer.interfaces"},
    "openrayzer.layers": {"openrayzer.interfaces", "openrayzer.types", "openrayzer.geometry"},
    "openrayzer.weights.weight_folder": {"openrayzer.interfaces", "openrayzer.layers"},
    "openrayzer.components.attention": SOCKETS,
    "openrayzer.components.tokenizers": SOCKETS,
    "openrayzer.components.positions": SOCKETS,
    "openrayzer.components.layouts": SOCKETS,
    "openrayzer.components.cameras": SOCKETS,
    "openrayzer.components.fusion": SOCKETS,
    "openrayzer.components.renderers": SOCKETS,
    "openrayzer.components.losses": SOCKETS,
    "openrayzer.models": SOCKETS,
    "openrayzer.data": {"openrayzer.interfaces", "openrayzer.types", "openrayzer.geometry", "openrayzer.settings"},
    "openrayzer.data.preparing": {"openrayzer.interfaces", "openrayzer.data"},
    "openrayzer.benchmarks": {
        "openrayzer.cli",
        "openrayzer.types",
        "openrayzer.interfaces",
        "openrayzer.settings",
        "openrayzer.components.attention",
        "openrayzer.data",
        "openrayzer.composer",
        "openrayzer.planning",
        "openrayzer.machine",
        "openrayzer.data.preparing",
        "openrayzer.training",
    },
    "openrayzer.evaluation": SOCKETS | {"openrayzer.settings"},
    "openrayzer.evaluation.scenes": SOCKETS
    | {
        "registry",
        "openrayzer",
        "openrayzer.settings",
        "openrayzer.machine",
        "openrayzer.data",
        "openrayzer.evaluation",
        "openrayzer.composer",
        "openrayzer.training",
        "openrayzer.weights.loading",
        "openrayzer.evaluation.report",
    },
    "openrayzer.evaluation.report": {"openrayzer.interfaces"},
    "openrayzer.evaluation.comparison": {
        "openrayzer.interfaces",
        "openrayzer.composer",
        "openrayzer.planning",
        "openrayzer.evaluation.scenes",
        "openrayzer.evaluation.report",
    },
    "openrayzer.composer": {"registry", "openrayzer.interfaces", "openrayzer.settings"},
    "openrayzer.training": {
        "registry",
        "openrayzer.types",
        "openrayzer.interfaces",
        "openrayzer.settings",
        "openrayzer.data",
        "openrayzer.layers",
        "openrayzer.evaluation",
        "openrayzer.weights.weight_folder",
    },
    "openrayzer.planning": {
        "openrayzer.types",
        "openrayzer.interfaces",
        "openrayzer.machine",
        "openrayzer.layers",
        "openrayzer.settings",
        "openrayzer.data",
    },
    "openrayzer.planning.cluster": {
        "openrayzer.interfaces",
        "openrayzer.settings",
        "openrayzer.components.attention",  # whether xformers loads
        "openrayzer.data",
        "openrayzer.training",
    },
    "openrayzer.weights.interop": SOCKETS | {"registry", "openrayzer.composer", "openrayzer.weights.weight_folder"},
    "openrayzer.weights.hub": {"openrayzer.interfaces"},
    "openrayzer.weights.loading": {
        "registry",
        "openrayzer.types",
        "openrayzer.interfaces",
        "openrayzer.layers",
        "openrayzer.weights.weight_folder",
        "openrayzer.weights.hub",
        "openrayzer.settings",
        "openrayzer.composer",
        "openrayzer.training",
    },
    "openrayzer.training.faults.replay": {
        "openrayzer.types",
        "openrayzer.interfaces",
        "openrayzer.layers",
        "openrayzer.weights.weight_folder",
        "openrayzer.composer",
        "openrayzer.training",
    },
    "openrayzer.video": {
        "registry",
        "openrayzer.types",
        "openrayzer.interfaces",
        "openrayzer.geometry",
        "openrayzer.machine",
        "openrayzer.weights.weight_folder",
        "openrayzer.data",
        "openrayzer.composer",
        "openrayzer.training",
        "openrayzer.weights.loading",
    },
    "openrayzer.weights.export": {
        "openrayzer.interfaces",
        "openrayzer.weights.weight_folder",
        "openrayzer.composer",
        "openrayzer.training",
        "openrayzer.weights.loading",
    },
}
ONLY_THERE = {  # third-party package -> the only first-party packages that may import it
    "deepspeed": {"openrayzer.training"},
    "jsonargparse": {"openrayzer.composer"},
    "xformers": {"openrayzer.components.attention"},
    "timm": {"openrayzer.components.tokenizers"},
    "jinja2": {"openrayzer.evaluation.report"},
    "av": {"openrayzer.data", "openrayzer.video", "openrayzer.benchmarks"},
    "pycolmap": {"openrayzer.data"},
    "huggingface_hub": {"openrayzer.weights.hub", "openrayzer.weights.export"},
}
FILES = sorted([*ROOT.glob("registry/**/*.py"), *ROOT.glob("openrayzer/**/*.py")])


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package(module: str) -> str:
    return ".".join(module.split(".")[: 2 if module.startswith("openrayzer.") else 1])


def imports(source: str, where: str) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: relative import"
            if node.module == "openrayzer":  # from openrayzer import layers
                yield from (f"openrayzer.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def violations(module: str, source: str) -> list[str]:
    here, wrong = package(module), []
    for imported in imports(source, module):
        there = package(imported)
        first_party = there.partition(".")[0] in ("registry", "openrayzer")
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
    unknown = {package(module_of(file)) for file in FILES} - MAY_IMPORT.keys()
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
        ("openrayzer.models.rayzer", "def f():\n    from openrayzer import cameras"),
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
