"""A metric of a plugin is one file and in every table."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openrayzer.evaluation.comparison.comparison import compare
from openrayzer.evaluation.comparison.comparison_files import markdown
from openrayzer.evaluation.metrics.image_scores import about_metric, metric_names
from openrayzer.evaluation.results.printed_table import result_table
from openrayzer.interfaces import METRICS
from registry import RegistryError

ROOT = Path(__file__).parents[2]
PLUGIN = '''
from openrayzer.interfaces import METRICS, Metric


@METRICS.register("mean_error")
class MeanError(Metric):
    """Mean absolute error in grey levels."""

    label, unit, better, digits = "Mean error", "levels", "lower", 1
    definition = "255 levels"

    def compute(self, prediction, target):
        return 255 * (prediction - target).abs().mean(dim=(2, 3, 4))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The file of the plugin. After the test its metric is not registered."""
    before = dict(METRICS._entries) if len(METRICS) else {}
    file = tmp_path / "mean_error.py"
    file.write_text(PLUGIN)
    yield file
    METRICS._entries = before


def test_a_metric_of_a_plugin_is_in_every_table(
    rayzer: Path, evaluate: Callable, tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
):
    metrics = evaluate(rayzer, plugins=(str(plugin),), sweep=(2,))
    folder = tmp_path / "out"
    written = json.loads((folder / "metrics.json").read_text())
    assert written["metrics"]["mean_error"] == about_metric("mean_error") | {"weights": None, "missing": None}
    values = [scene["metrics"]["joint"]["mean_error"] for scene in written["per_scene"].values()]
    assert 0 < written["summary"]["joint"]["mean_error"]["mean"] == pytest.approx(sum(values) / len(values))
    assert written["views_sweep"][0]["joint"]["mean_error"] > 0
    assert (folder / "per_view.csv").read_text().splitlines()[0].endswith("psnr,ssim,lpips_vgg,lpips_alex,mean_error")
    assert "mean_error" in result_table(metrics, folder).splitlines()[0]
    page = (folder / "report.html").read_text()
    assert "Mean error, levels ↓" in page
    assert metric_names()[-1] == "mean_error"

    monkeypatch.setattr(METRICS, "_entries", {entry.name: entry for entry in METRICS if entry.name != "mean_error"})
    assert "mean_error" not in METRICS  # as in a process without the plugin
    comparison = compare([str(folder), str(folder)], metric="mean_error")
    assert "| Mean error, levels |" in markdown(comparison)
    assert comparison.pairs[0].obstacles == ()
    assert comparison.entries[0].means["mean_error"].mean == pytest.approx(sum(values) / len(values))


def test_only_the_metrics_asked_for_are_measured(rayzer: Path, evaluate: Callable, tmp_path: Path):
    metrics = evaluate(rayzer, metrics=("ssim",), pictures=1)
    assert list(metrics["metrics"]) == ["ssim"]
    assert all(list(row) == ["ssim"] for row in metrics["summary"].values())
    assert (tmp_path / "out/per_view.csv").read_text().splitlines()[0].endswith("method,ssim")
    assert any("pictures" in scene for scene in metrics["per_scene"].values())  # the worst and best by SSIM


def test_a_misspelt_metric_is_an_error_with_similar_names(rayzer: Path, evaluate: Callable):
    with pytest.raises(RegistryError, match="no metric named 'psnrr'; did you mean 'psnr'"):
        evaluate(rayzer, metrics=("psnrr",))


def test_the_page_on_evaluation_lists_every_metric():
    page = (ROOT / "docs/evaluation.md").read_text()
    for name in metric_names():
        about = about_metric(name)
        label = f"{about['label']}, {about['unit']}" if about["unit"] else about["label"]
        summary = next(entry.summary for entry in METRICS if entry.name == name)
        assert f"| `{name}` | {label} | {about['better']} | {summary} |" in page
