"""The command ``verify``: a report on every frame and camera of a dataset."""

from argparse import Namespace
from pathlib import Path

from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_part,
    add_processes,
    add_source,
    open_source,
    part_of,
    processes_of,
    report_problems,
    source_settings,
)
from openrayzer.data.preparing.folders import write_json
from openrayzer.data.preparing.parts.part_files import Merging, PartFolder, PartResult
from openrayzer.data.preparing.verifying import SourceReport, joined_reports
from openrayzer.data.preparing.verifying import verify as verify_source
from openrayzer.data.preparing.whole_scenes import contents
from openrayzer.interfaces import InputError

VERIFY = """Decode every frame and check every camera; print one line per scene.

    openrayzer prepare verify --from chunks /data/re10k --split test
    openrayzer prepare verify --from dl3dv /data/dl3dv --output report.json
    openrayzer prepare verify --source '{"type": "images", "root": "/data/clips", "follow_links": true}'

A camera must be finite, its rotation must be a rotation and not mirrored, and its intrinsics must be plausible: focal
lengths of 0.1 to 20 image sides, principal point in the middle 60 % of the image, square pixels. Different frame sizes
and a camera that does not move are remarks, not faults. The exit code is 1 if there is a fault. --part K/N verifies a
part of the scenes, on one of several machines; merge joins the parts."""


def add_verify(commands: Commands) -> None:
    """Add the parser of ``verify``."""
    parser = add_command(commands, "verify", VERIFY, verify)
    add_source(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the full report to FILE, as JSON")
    add_processes(parser)
    add_part(parser)


def verify(arguments: Namespace) -> int:
    """Verify every frame and camera of a dataset."""
    processes, part = processes_of(arguments), part_of(arguments)
    if part and arguments.output is None:
        raise InputError("--part needs --output, beside which the parts are written")
    source = open_source(arguments, *([arguments.output] if arguments.output else []))
    if part is None:
        return _tell(verify_source(source, processes=processes), arguments.output)
    report = PartFolder(arguments.output).run(
        part, lambda: _part_result(verify_source(source, processes=processes, part=part)), command="verify",
        settings=source_settings(arguments, source), contents=contents(source, part.numbers(len(source))),
    )  # fmt: skip
    print(f"{part} of {arguments.output}: {len(report.content['scenes'])} scenes")
    return report_problems(report.problems)


def merge_verified(merging: Merging, output: Path) -> list[str]:
    """Write and print the report from all parts; returns its problems."""
    report = joined_reports(SourceReport.from_json(result.content) for result in merging.results())
    _print(report)
    write_json(output, report.as_json())
    return report.problems


def _part_result(report: SourceReport) -> PartResult:
    return PartResult(report.as_json(), report.problems)


def _tell(report: SourceReport, output: Path | None) -> int:
    _print(report)
    if output is not None:
        write_json(output, report.as_json())
    return report_problems(report.problems)


def _print(report: SourceReport) -> None:
    for scene in report.scenes:
        usable = scene.num_frames - len(scene.broken)
        notes = [f"{len(scene.cameras)} wrong cameras"] * bool(scene.cameras) + list(scene.remarks)
        print("; ".join([f"{scene.key}: {usable} of {scene.num_frames} frames usable", *notes]))
    print(f"{len(report.scenes)} scenes, {report.num_usable} of {report.num_frames} frames usable, "
          f"{len(report.problems)} problem(s)")  # fmt: skip
