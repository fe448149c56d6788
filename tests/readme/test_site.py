"""The pages that the documentation site makes at build time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from openrayzer.interfaces import REGISTRIES

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs", reason="needs pip install -e '.[docs]'")
sys.path.insert(0, str(ROOT / "docs/site"))
from component_pages import component_navigation, component_pages, own_entries  # noqa: E402
from pages import linked, readme_section  # noqa: E402


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return component_pages()


def test_every_component_has_a_page_with_its_parameters_and_source(pages: dict[str, str]):
    for registry in REGISTRIES:
        for entry in own_entries(registry):
            page = pages[f"components/{registry.kind}/{entry.name}.md"]
            rows = re.findall(r"^\| `(\w+)` \| ", page, flags=re.MULTILINE)
            assert rows == [parameter.name for parameter in entry.parameters], entry.name
            assert f"class {entry.target.__name__}" in page, entry.name


def test_a_row_has_type_default_and_meaning(pages: dict[str, str]):
    page = pages["components/camera_head/pi3.md"]
    assert "| `width` | `int` | required | token width d. |" in page
    assert "| `max_focal` | `float | None` | `null` | upper bound on the focal length, in the same unit;" in page
    assert "([camera_head](../camera_head/index.md))" in pages["components/model/rayzer.md"]
    assert "`ContextRenderer` ([renderer](../renderer/index.md))" in pages["components/model/rayzer.md"]


def test_every_page_of_a_component_is_in_the_navigation(pages: dict[str, str]):
    assert set(re.findall(r"'([^']+\.md)'", str(component_navigation()))) == set(pages)


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("tasks/dl3dv.md", "`docs/data.md` lists", "[Data](../data.md) lists"),
        ("gpus.md", "see `experiments/README.md`.", "see [Experiments](experiments.md)."),
        ("data.md", "`docs/data.md` is this page", "`docs/data.md` is this page"),
        ("gpus.md", "[`docs/data.md`](data.md)", "[`docs/data.md`](data.md)"),
    ],
)
def test_names_of_pages_become_links(source: str, text: str, expected: str):
    assert linked(text, source) == expected


def test_a_section_of_the_readme_has_its_code():
    assert "CAMERA_HEADS.register" in readme_section("Add a component")


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_the_network(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\" >]+)")
    found = {url for file in (tmp_path / "site").rglob("*.html") for url in loaded.findall(file.read_text("utf-8"))}
    assert found == set()
