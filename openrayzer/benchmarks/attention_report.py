"""Measured attention backends as a table and as a plot."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from openrayzer.benchmarks.attention_speed import DIRECTIONS, Call, Figure
from openrayzer.interfaces import InputError

TIE = 0.03
"""Times count as equal if they differ by a smaller share than this."""


def table(figures: Sequence[Figure]) -> Iterator[str]:
    """One line per call, direction and backend, with a mark for the choice of ``auto``; then the refusals."""
    yield (
        f"{'call':<26}{'b x n -> m, h x e':<26}{'dtype':<10}{'direction':<22}{'backend':<16}"
        f"{'median ms':>10}{'min ms':>10}{'GFLOP/s':>9}{'MiB':>9}{'error':>10}  auto"
    )
    for figure in figures:
        if figure.seconds is None:
            continue
        call = figure.call
        size = f"{call.batch} x {call.queries} -> {call.keys}, {call.heads} x {call.head_width}"
        yield (
            f"{call.kind:<26}{size:<26}{call.dtype:<10}{figure.direction:<22}{figure.backend:<16}"
            f"{figure.seconds.median * 1e3:>10.2f}{figure.seconds.minimum * 1e3:>10.2f}"
            f"{figure.flops_per_second / 1e9:>9.1f}{figure.extra_bytes / 2**20:>9.1f}{figure.error:>10.1e}"
            f"{'  yes' if figure.chosen else ''}"
        )
    refused: dict[str, None] = {}
    for figure in figures:
        if figure.refusal:
            refused[f"not measured: {figure.backend} in {figure.call.dtype}: {figure.refusal}"] = None
    yield from refused


def verdicts(figures: Sequence[Figure]) -> Iterator[str]:
    """One line per call: whether the choice of ``auto`` was the fastest, forward and backward together."""
    rivals: dict[Call, dict[str, float]] = {}
    chosen: dict[Call, str] = {}
    for figure in figures:
        if figure.seconds is not None and figure.direction == DIRECTIONS[1]:
            rivals.setdefault(figure.call, {})[figure.backend] = figure.seconds.median
            if figure.chosen:
                chosen[figure.call] = figure.backend
    for call, name in chosen.items():
        seconds = rivals[call]
        best = min(seconds, key=seconds.__getitem__)
        yield f"{call.kind}, {call.queries} -> {call.keys}, {call.dtype}: auto takes {name}, " + (
            "the fastest"
            if seconds[name] <= seconds[best] * (1 + TIE)
            else f"and {best} took {1 - seconds[best] / seconds[name]:.0%} less"
        )


def plot(figures: Sequence[Figure], path: Path) -> None:
    """Plot time against sequence length: a row per direction, a column per kind of call, a line per backend.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Picture
    except ImportError as error:
        raise InputError("a plot needs matplotlib: pip install 'openrayzer[plots]'") from error
    measured = [figure for figure in figures if figure.seconds is not None]
    kinds = list(dict.fromkeys(figure.call.kind for figure in measured))
    picture = Picture(figsize=(3.4 * len(kinds), 6.2), layout="constrained")
    panels = picture.subplots(2, len(kinds), squeeze=False, sharex="col")
    for row, direction in enumerate(DIRECTIONS):
        for column, kind in enumerate(kinds):
            panel = panels[row][column]
            for name, (lengths, milliseconds) in _lines(measured, kind, direction).items():
                panel.plot(lengths, milliseconds, marker="o", markersize=3, label=name)
            panel.set(xscale="log", yscale="log", title=f"{kind}\n{direction}" if not row else direction)
            for formatted in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                formatted("{x:g}")
            panel.grid(visible=True, which="major", alpha=0.3)
            panel.set_xlabel("queries per sequence" if row else "")
        panels[row][0].set_ylabel("ms, median")
    picture.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    picture.savefig(path, dpi=110)


def _lines(figures: Sequence[Figure], kind: str, direction: str) -> dict[str, tuple[list[int], list[float]]]:
    """Lengths and milliseconds by backend, head width and dtype."""
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for figure in sorted(figures, key=lambda each: each.call.queries):
        if (figure.call.kind, figure.direction) == (kind, direction) and figure.seconds is not None:
            name = f"{figure.backend}, {figure.call.dtype}, {figure.call.heads} x {figure.call.head_width}"
            lengths, milliseconds = lines.setdefault(name, ([], []))
            lengths.append(figure.call.queries)
            milliseconds.append(figure.seconds.median * 1e3)
    return lines
