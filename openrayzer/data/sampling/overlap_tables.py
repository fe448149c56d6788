"""Tables of visual overlap: for each scene, the overlap of two views by their distance in frames."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from openrayzer.interfaces import InputError
from openrayzer.machine.plain_files import MAX_FILE_BYTES, FileError, read_json
from openrayzer.machine.writing import unwritable, whole_file

SCENE_FILE = "covisibility.json"
STATISTICS = ("avg_per_view", "cos_sim")
"""Names of the overlap in E-RayZer's two kinds of tables: geometric and semantic."""

_NAMED = 5  # faults that one message lists


class OverlapCurve:
    """Overlap of two views as a function of their distance in frames, known at some distances.

    Args:
        overlaps: distance in frames, 1 or more -> overlap.
    """

    def __init__(self, overlaps: Mapping[int, float]) -> None:
        self.intervals = np.array(sorted(overlaps), np.int64)
        self.overlaps = np.array([overlaps[interval] for interval in self.intervals.tolist()], np.float64)

    def interval(self, overlap: float, *, tolerance: float) -> float | None:
        """Shortest interval in frames with this overlap, interpolated linearly; None if the curve does not reach it.

        An overlap up to ``tolerance`` above the first known overlap, or below the last one, counts as equal to it.
        """
        first, last = self.overlaps[0], self.overlaps[-1]
        if first <= overlap <= first + tolerance:
            return float(self.intervals[0])
        crossed = (self.overlaps[:-1] >= overlap) & (overlap >= self.overlaps[1:])
        if crossed.any():
            left = int(crossed.argmax())
            drop = self.overlaps[left] - self.overlaps[left + 1]
            share = (self.overlaps[left] - overlap) / drop if drop > 0 else 0.0
            return float(self.intervals[left] + share * (self.intervals[left + 1] - self.intervals[left]))
        return float(self.intervals[-1]) if last - tolerance <= overlap <= last else None


def read_overlap_tables(path: Path | str) -> dict[str, OverlapCurve]:
    """Read scene name -> curve from one file or from a folder.

    Args:
        path: a JSON file {scene: {interval: overlap}}; or E-RayZer's folder of <scene>/covisibility.json, each
            {interval: overlap}. An overlap is a number, or an object with the number as ``avg_per_view`` or
            ``cos_sim``.

    Raises:
        InputError: the file cannot be read or is malformed; the message lists the scenes with a fault.
    """
    path = Path(path)
    entries = _read_folder(path) if path.is_dir() else _read_json(path)
    if not isinstance(entries, dict) or not entries:
        raise InputError(
            f"the overlap table {path} must be an object {{scene: {{interval: overlap}}}} with at least one scene"
        )
    curves, faults = {}, []
    for scene, table in entries.items():
        curve = _curve(table)
        if isinstance(curve, str):
            faults.append(f"scene {scene!r}: {curve}")
        else:
            curves[scene] = curve
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise InputError(f"the overlap table {path} is malformed: {'; '.join(faults[:_NAMED])}{more}")
    return curves


def write_overlap_tables(path: Path | str, tables: Mapping[str, Mapping[int, float]]) -> None:
    """Write a JSON file for ``read_overlap_tables``; it exists completely or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    content = {scene: {str(interval): round(overlap, 4) for interval, overlap in sorted(table.items())}
               for scene, table in sorted(tables.items())}  # fmt: skip
    text = json.dumps(content, indent=1) + "\n"
    try:
        with whole_file(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(Path(path), error) from error


def _read_folder(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob(f"*/{SCENE_FILE}"))
    if not files:
        raise InputError(f"the overlap table {folder} has no <scene>/{SCENE_FILE}")
    return {file.parent.name: _read_json(file) for file in files}


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, root=None, limit=MAX_FILE_BYTES)
    except FileError as error:
        make = "" if path.exists() else "; `openrayzer prepare overlap` makes one"
        raise InputError(f"the overlap table {path} cannot be used: {error}{make}") from error


def _curve(table: Any) -> OverlapCurve | str:
    """The curve of one scene, or a sentence on the fault of its table."""
    if not isinstance(table, dict) or not table:
        return f"expected an object of intervals, got {table!r:.40}"
    overlaps = {}
    for key, entry in table.items():
        interval = int(key) if key.isascii() and key.isdecimal() and len(key) < 10 else 0
        if interval < 1:
            return f"{key!r:.20} is not an interval; it must be a whole number of frames, 1 or more"
        overlap = (
            next((entry[name] for name in STATISTICS if name in entry), None) if isinstance(entry, dict) else entry
        )
        if isinstance(overlap, bool) or not isinstance(overlap, int | float) or not -1 <= overlap <= 1.001:
            return f"interval {interval}: {entry!r:.40} is not an overlap; it must be a number from -1 to 1"
        overlaps[interval] = float(overlap)
    return OverlapCurve(overlaps)
