"""The notebooks of the documentation run from the first cell to the last, on small data."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {file.stem: file for file in sorted((ROOT / "docs/notebooks").glob("*.ipynb"))}
CHANGES = " ".join(
    [
        *(f"data.{split}[0].dataset.{size}" for split in ("train", "test") for size in ("num_train=4", "num_test=2")),
        "data.workers=0",
        "model.solver.starts=2",
        "model.solver.focal_starts=2",
        "model.solver.fine_steps=3",
    ]
)
SMALL = f'steps, frames, scenes = 2, 8, 2\nchanges = "{CHANGES}"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader runs one notebook after the other."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["photos_to_video", "evaluation_taken_apart", "own_component"])
def test_a_notebook_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    (place,) = [at for at, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute()
    texts = [str(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [text for text in texts if re.search(r"^(error:|Traceback)", text, flags=re.MULTILINE)]
    if name == "photos_to_video":
        assert (folder / "new_views.webp").stat().st_size > 100


def test_every_notebook_is_run_and_none_has_outputs():
    assert set(NOTEBOOKS) == {"photos_to_video", "evaluation_taken_apart", "own_component"}
    for file in NOTEBOOKS.values():
        cells = [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells), file.name


def test_the_first_code_cell_installs_openrayzer_where_it_is_missing():
    for file in NOTEBOOKS.values():
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert "find_spec" in first, file.name
        assert re.search(r'%pip install --quiet "openrayzer\[plots\]"', first), file.name
