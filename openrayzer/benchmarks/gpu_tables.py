"""Tables of docs/speed.md from the measurements of tools/measure_gpu.sh.

python -m openrayzer.benchmarks.gpu_tables results/gpu > summary.md
python -m openrayzer.benchmarks.gpu_tables results/gpu --page docs/speed.md      # replaces the tables of the page
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openrayzer.cli import run_tool
from openrayzer.interfaces import InputError

BEGIN, END = "<!-- begin of the GPU tables -->", "<!-- end of the GPU tables -->"
UNKNOWN = "not yet measured"
EXPERIMENTS = (
    "rayzer_re10k", "rayzer_dl3dv", "rayder_dl3dv", "lvsm_re10k", "lvsm_dl3dv", "rayzer_paper_dl3dv",
    "lvsm_decoder_re10k",
)  # fmt: skip
"""Full-size experiments in the order of the tables. measure_gpu.sh measures the last ones only if time is left."""
MIB, GIB = 2**20, 2**30


def tables(folder: Path) -> str:
    """All tables in Markdown. A missing file gives "not yet measured".

    Raises:
        InputError: a file is not valid JSON.
    """
    parts = (_machine, _attention, _steps, _zero, _rendering, _rasterisers, _loading)
    return "\n\n".join("\n".join(part(folder)) for part in parts) + "\n"


def replaced(page: str, folder: Path) -> str:
    """The page with the tables of ``folder`` between its two markers.

    Raises:
        InputError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"the page has no markers for the tables: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables(folder)}\n{END}{after}"


def _machine(folder: Path) -> Iterator[str]:
    found = _read(folder / "machine.json")
    facts = found["installation"] if found else {}
    yield "Measured on: " + ("; ".join(f"{name} {value}" for name, value in facts.items()) or UNKNOWN) + "."


def _attention(folder: Path) -> Iterator[str]:
    """A row per call and a column per backend, forward and backward; the choice of ``auto`` is bold."""
    figures = [one for one in _read(folder / "attention.json") or [] if one["direction"] == "forward and backward"]
    yield "Attention, ms of a call forward and backward; the choice of `auto` is bold:"
    yield ""
    backends = sorted({one["backend"] for one in figures if one["seconds"]})
    yield _row("call", "dtype", *(backends or ["backends"]))
    yield _line(2 + max(1, len(backends)))
    calls: dict[tuple[str, str], dict[str, str]] = {}
    for one in figures:
        if one["seconds"]:
            call, mark = one["call"], "**" * one["chosen"]
            name = f"{call['kind']}, {call['batch']} x {call['queries']} -> {call['keys']}"
            cell = f"{mark}{one['seconds']['median'] * 1e3:.2f}{mark}"
            calls.setdefault((name, call["dtype"]), {})[one["backend"]] = cell
    for (name, dtype), cells in calls.items():
        yield _row(name, dtype, *(cells.get(backend, "") for backend in backends))
    if not calls:
        yield _row("", "", UNKNOWN)


def _steps(folder: Path) -> Iterator[str]:
    """A row per experiment at its largest batch."""
    yield "The step of the full-size experiments at the largest batch that fits, without the perceptual loss:"
    yield ""
    yield _row(
        "experiment", "clips", "step, ms", "views a second", "TFLOP/s", "MFU", "MFU of square products", "peak GiB"
    )
    yield _line(8)
    for name in EXPERIMENTS:
        yield _row(f"`{name}`", *_step(_read(folder / f"training_{name}.json")))


def _step(found: Sequence[Mapping[str, Any]] | None) -> list[str]:
    if not found:
        return [UNKNOWN, *[""] * 6]
    one = found[0]
    median = one["step"]["median"]
    rate = one["flops"] / median
    return [
        f"{one['batch']}", f"{1e3 * median:.0f}", f"{one['views_per_second']:.0f}", f"{rate / 1e12:.0f}",
        f"{100 * rate / one['own_shapes']:.0f} %", f"{100 * rate / one['square']:.0f} %",
        f"{one['peak_bytes'] / GIB:.1f}",
    ]  # fmt: skip


def _zero(folder: Path) -> Iterator[str]:
    """ZeRO-2 and DistributedDataParallel, and their ratio."""
    found = _read(folder / "zero_beside_ddp.json")
    yield "ZeRO-2 and plain DistributedDataParallel, `rayzer_re10k`:"
    yield ""
    yield _row("", "ZeRO-2", "DDP", "ratio")
    yield _line(4)
    rows = {
        "step, median, ms": lambda one: 1e3 * one["step"]["median"],
        "gradients and optimizer of a rank, MiB": lambda one: one["state_bytes"] / MIB,
        "peak memory of a rank, MiB": lambda one: one["peak_bytes"] / MIB,
    }
    for name, value in rows.items():
        if not found:
            yield _row(name, UNKNOWN, "", "")
            continue
        ours, plain = (value(one) for one in found)
        yield _row(name, f"{ours:.0f}", f"{plain:.0f}", f"{ours / plain:.2f}")


def _rendering(folder: Path) -> Iterator[str]:
    """A row for each way to render."""
    yield "Rendering, `rayzer_re10k`, random weights:"
    yield ""
    yield _row("renderer", "ms a view", "times as fast")
    yield _line(3)
    for one in _read(folder / "rendering.json") or []:
        yield _row(one["name"], f"{1e3 * one['seconds']['median'] / one['views']:.2f}", f"{one['faster']:.2f}")
    if not _read(folder / "rendering.json"):
        yield _row("", UNKNOWN, "")


def _rasterisers(folder: Path) -> Iterator[str]:
    """A row for each rasteriser and number of Gaussians."""
    yield "Rasterisers, 4 scenes with 5 views of 256 x 256, three context views of Gaussians:"
    yield ""
    yield _row("rasteriser", "Gaussians of a scene", "forward, ms", "with backward, ms", "difference of gradients")
    yield _line(5)
    found = _read(folder / "rasterisers.json")
    for one in found or []:
        measured = ["", "", one["refusal"]]
        if one["step"]:
            times = (f"{1e3 * one[name]['median']:.1f}" for name in ("forward", "step"))
            measured = [*times, f"{one['gradient']:.1e}"]
        yield _row(one["name"], f"{one['gaussians']:,}", *measured)
    if not found:
        yield _row(UNKNOWN, "", "", "", "")


def _loading(folder: Path) -> Iterator[str]:
    """The share of a step that waits for clips."""
    found = _read(folder / "loading.json")
    yield "The loader feeding the GPU, `rayzer_re10k` on chunks of 640 x 360:"
    yield ""
    yield _row("clips of a micro-batch", "step, ms", "views a second", "waits for data")
    yield _line(4)
    if not found:
        yield _row(UNKNOWN, "", "", "")
        return
    (one,) = found
    step, wait = 1e3 * one["step"]["median"], 100 * one["data_wait"]
    yield _row(f"{one['batch']}", f"{step:.0f}", f"{one['views_per_second']:.0f}", f"{wait:.1f} % of the step")


def _read(file: Path) -> Any:
    """The content of a JSON file; None if it is missing, e.g. after a failed part."""
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _line(columns: int) -> str:
    return f"|{'---|' * columns}"


def main() -> int:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="output folder of tools/measure_gpu.sh")
    parser.add_argument("--page", type=Path, metavar="FILE", help="page with tables to replace")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        raise InputError(f"there is no folder {arguments.folder}")
    if arguments.page is None:
        print(tables(arguments.folder), end="")
    else:
        page = arguments.page.read_text(encoding="utf-8")
        arguments.page.write_text(replaced(page, arguments.folder), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_tool(main)
