"""A comparison as Markdown and as files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from openrayzer.evaluation.comparison.comparison import ComparedRun, Comparison
from openrayzer.evaluation.comparison.scene_pairs import Pair
from openrayzer.evaluation.metrics.intervals import Mean
from openrayzer.evaluation.report.names import DASH, written
from openrayzer.interfaces import InputError

JSON, MARKDOWN = "comparison.json", "comparison.md"


def markdown(comparison: Comparison) -> str:
    """The table, the differences of pairs, and the notes."""
    lines = [*_table(comparison), ""]
    if comparison.pairs:
        lines += [*_pairs(comparison), ""]
    if comparison.notes:
        lines += ["Notes:", "", *(f"- {note}" for note in comparison.notes), ""]
    return "\n".join(lines)


def write_comparison(
    comparison: Comparison, folder: Path | str, *, plots: Callable[[Comparison, Path], list[Path]]
) -> list[Path]:
    """Write comparison.json, comparison.md and the files that ``plots`` draws.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(comparison.as_json(), indent=1, allow_nan=False)
        (folder / JSON).write_text(text + "\n", encoding="utf-8")
        (folder / MARKDOWN).write_text(markdown(comparison), encoding="utf-8")
        return [folder / JSON, folder / MARKDOWN, *plots(comparison, folder)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _table(comparison: Comparison) -> list[str]:
    metrics = list(dict.fromkeys(key for entry in comparison.entries for key in entry.means))
    metrics = [key for key in metrics if any(_has(entry, key) for entry in comparison.entries)]
    head = [
        "",
        "method",
        "step",
        "scenes",
        *(comparison.style(key).label for key in metrics),
        "seconds of training",
        "FLOPs",
    ]
    rows = [
        [
            entry.name,
            entry.method,
            DASH if entry.step is None else f"{entry.step}",
            f"{max((mean.scenes for mean in entry.means.values()), default=0) or DASH}",
            *(_mean(entry.means.get(key), comparison.style(key).decimals) for key in metrics),
            written(entry.seconds, 0),
            DASH if entry.flops is None else f"{entry.flops:.3g}",
        ]
        for entry in comparison.entries
    ]
    return [*_rows(head, rows), "", "Means over scenes, with 95 % bootstrap intervals."]


def _pairs(comparison: Comparison) -> list[str]:
    style, names = comparison.style(comparison.metric), [entry.name for entry in comparison.entries]
    alike = [one for one in comparison.pairs if not one.obstacles]
    lines = []
    if alike:
        head = [f"{style.label}, scene by scene", "difference", "scenes", "higher in", "lower in", "p"]
        rows = [
            [
                f"{names[one.second]} minus {names[one.first]}",
                _mean(one.mean, style.decimals, sign=True),
                f"{len(one.differences)}",
                f"{one.higher}",
                f"{one.lower}",
                DASH if one.p_value is None else f"{one.p_value:.2g}",
            ]
            for one in alike
        ]
        lines += [*_rows(head, rows), "", "p: two-sided sign-flip permutation test; not corrected for several pairs."]
    remarks = [
        f"- {names[one.second]} and {names[one.first]}: {text}" for one in comparison.pairs for text in _remarks(one)
    ]
    return [*lines, *([""] if lines and remarks else []), *remarks]


def _remarks(one: Pair) -> list[str]:
    return [*(f"**not compared**: {reason}" for reason in one.obstacles), *one.notes]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _has(entry: ComparedRun, key: str) -> bool:
    return key in entry.means and entry.means[key].mean is not None


def _mean(mean: Mean | None, decimals: int, *, sign: bool = False) -> str:
    if mean is None or mean.mean is None:
        return DASH
    text = written(mean.mean, decimals, sign=sign)
    if mean.low is not None and mean.high is not None:
        text += f" ({written(mean.low, decimals, sign=sign)} to {written(mean.high, decimals, sign=sign)})"
    return text + (f", {mean.not_finite} not finite" if mean.not_finite else "")
