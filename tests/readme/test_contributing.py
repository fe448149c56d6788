"""The components in CONTRIBUTING.md and README pass the contract tests in a copy of the tree that has them."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from launching import clean_environment

from openrayzer.interfaces import REGISTRIES
from registry import Registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
STEP = re.compile(r"(New file|Add to) `([^`]+)`:\n\n```python\n(.*?)```", flags=re.DOTALL)
IMPORTS = "test_imports_follow_the_table"
RUFF = str(Path(sys.executable).with_name("ruff"))
LIMITS = {
    "A camera head": 2, "A dataset": 2, "A matcher": 2, "A metric": 2, "A model without tokens": 2, "A schedule": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a page tells a newcomer to do.

    Attributes:
        title: heading of the recipe.
        num_files: number of files that the heading states.
        steps: (file, code, whether the file is new).
    """

    title: str
    num_files: int
    steps: tuple[tuple[str, str, bool], ...]

    @property
    def name(self) -> str:
        """The registered name."""
        (name,) = {name for _, code, _ in self.steps for name in re.findall(r'_*[A-Z]+\.register\("(\w+)"\)', code)}
        return name

    def follow(self, tree: Path) -> None:
        """Write and change the files as the page says."""
        for file, code, new in self.steps:
            assert (tree / file).exists() != new, file
            with (tree / file).open("a", encoding="utf-8") as opened:
                opened.write(code if new else f"\n\n{code}")


def recipes() -> list[Recipe]:
    """The recipes of CONTRIBUTING.md, and README's camera head."""
    found = []
    for title, num_files, text in re.findall(
        r"^### ([^\n(]+) \((\d) files?\)\n(.*?)(?=^### |\Z)", PAGE, flags=re.M | re.S
    ):
        steps = tuple((file, code, kind == "New file") for kind, file, code in STEP.findall(text))
        found.append(Recipe(title, int(num_files), steps))
    (head,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "CAMERA_HEADS.register" in code]
    folder, line = re.search(r"put the file into `([^`]+)` and add its import line to\s+`([^`]+)`", README).groups()
    package = folder.strip("/").replace("/", ".")
    imported = f"from {package} import my_head as my_head\n"
    return [*found, Recipe("README", 2, ((f"{folder}my_head.py", head, True), (line, imported, False)))]


RECIPES = recipes()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Contract tests of each component in a copy of the tree: the names of tests that ran, with " FAILED" if so."""
    tree = tmp_path_factory.mktemp("newcomer") / "openrayzer"
    for folder in ("openrayzer", "registry", "experiments", "ds_configs"):
        shutil.copytree(ROOT / folder, tree / folder)
    for folder in ("architecture", "contracts", "models", "training", "data", "components/rasterisers"):
        shutil.copytree(ROOT / "tests" / folder, tree / "tests" / folder)
    for file in ("setup.cfg", "pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, tree / file)
    for recipe in RECIPES:
        recipe.follow(tree)
    for check in (["format", "--check"], ["check"]):
        files = [file for recipe in RECIPES for file, _, new in recipe.steps if new]
        tidy = subprocess.run([RUFF, *check, *files], cwd=tree, capture_output=True, text=True, check=False)
        assert tidy.returncode == 0, tidy.stdout
    chosen = " or ".join(recipe.name for recipe in RECIPES)
    folders = ["tests/contracts", "tests/data/test_paths.py", "tests/architecture/test_imports.py"]
    command = [sys.executable, "-m", "pytest", *folders, "-k", f"{chosen} or {IMPORTS}"]
    command += ["-q", "--junit-xml=result.xml", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tree, env=clean_environment(), capture_output=True, text=True, check=False)
    assert (tree / "result.xml").exists(), done.stdout + done.stderr
    ran: dict[str, list[str]] = {name: [] for name in (*(recipe.name for recipe in RECIPES), IMPORTS)}
    for case in ElementTree.parse(tree / "result.xml").iter("testcase"):
        for name in ran:
            if name in re.split(r"[\[\]-]", case.attrib["name"]):
                failed = case.find("failure") is not None or case.find("error") is not None
                ran[name].append(case.attrib["name"] + " FAILED" * failed)
    return ran


def test_every_promised_recipe_is_there():
    assert {recipe.title: recipe.num_files for recipe in RECIPES} == LIMITS | {"README": 2}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_touches_as_many_files_as_it_states_and_passes_the_contract_tests(
    recipe: Recipe, outcomes: dict[str, list[str]]
):
    assert len({file for file, _, _ in recipe.steps}) == recipe.num_files <= LIMITS.get(recipe.title, 2)
    assert [name for name in outcomes[recipe.name] if name.endswith(" FAILED")] == []
    assert len(outcomes[recipe.name]) >= 7


def test_the_recipes_import_what_their_rooms_may_import(outcomes: dict[str, list[str]]):
    assert outcomes[IMPORTS] == [IMPORTS]


def home_of(registry: Registry) -> str:
    return f"{registry.home.replace('.', '/')}/__init__.py"


def test_the_table_of_kinds_has_every_registry_with_its_import_file():
    rows = re.findall(r"^\| `(\w+)` \| `([\w/.]+)`[^|]*\| (?:`([\w/.]+)`)? ?\|$", PAGE, flags=re.MULTILINE)
    assert [kind for kind, _, _ in rows] == [registry.kind for registry in REGISTRIES]
    for (_, place, line), registry in zip(rows, REGISTRIES, strict=True):
        assert (ROOT / place).exists(), place
        assert (line or home_of(registry)) == home_of(registry)
        assert bool(line) == place.endswith("/"), "a file that is there already needs no import line"
