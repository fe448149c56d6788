"""The folder of an evaluation: checked before the evaluation, and its files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.evaluation.results.summary import per_view_lines
from openrayzer.interfaces import InputError
from openrayzer.machine.writing import check_folder_writable, real_path

FORMAT = 1
"""Version of metrics.json."""
METRICS, PER_VIEW, REPORT, PICTURES = "metrics.json", "per_view.csv", "report.html", "pictures"
_OURS = frozenset({METRICS, PER_VIEW, REPORT, PICTURES})


def refuse_output(output: Path) -> None:
    """Check that an evaluation can be written to ``output``. An evaluation in this folder will be replaced.

    Raises:
        InputError: something else is there, or the folder cannot be written.
    """
    output = real_path(output)
    if output == Path.cwd():
        raise InputError(f"--output {output} is the current folder, which would be replaced; choose another folder")
    if output.exists():
        if not output.is_dir():
            raise InputError(f"--output {output} is a file; choose another folder")
        foreign = sorted(entry.name for entry in output.iterdir() if entry.name not in _OURS)
        if foreign:
            raise InputError(
                f"--output {output} contains {', '.join(foreign[:3])}, which no evaluation wrote; choose another folder"
            )
        if any(output.iterdir()) and not _is_evaluation(output / METRICS):
            raise InputError(f"--output {output} is not empty and contains no evaluation; choose another folder")
    check_folder_writable(output)


def write_evaluation(
    folder: Path, metrics: Mapping[str, Any], results: Sequence[SceneResult], *, columns: Sequence[str]
) -> None:
    """Write metrics.json, per_view.csv and the pictures.

    Args:
        folder: where to write.
        metrics: content of metrics.json.
        results: of all scenes.
        columns: names of the metrics in per_view.csv.
    """
    (folder / METRICS).write_text(as_json(metrics), encoding="utf-8")
    (folder / PER_VIEW).write_text(per_view_lines(results, columns), encoding="utf-8")
    for result in results:
        for path, content in result.files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def as_json(metrics: Mapping[str, Any]) -> str:
    """JSON with one line per scene, so that files with thousands of scenes can be read and compared."""
    head = json.dumps({key: value for key, value in metrics.items() if key != "per_scene"}, indent=1, allow_nan=False)
    lines = [
        f"  {json.dumps(scene)}: {json.dumps(entry, allow_nan=False)}" for scene, entry in metrics["per_scene"].items()
    ]
    return head.removesuffix("\n}") + ',\n "per_scene": {\n' + ",\n".join(lines) + "\n }\n}\n"


def _is_evaluation(file: Path) -> bool:
    try:
        return json.loads(file.read_text(encoding="utf-8"))["format"] >= 1
    except (OSError, ValueError, KeyError, TypeError):
        return False
