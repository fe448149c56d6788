"""The command ``verify``: a report on every frame and camera of a dataset."""

from argparse import Namespace
from pathlib import Path

from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_processes,
    add_source,
    open_source,
    processes_of,
    report_problems,
)
from openrayzer.data.preparing.folders import write_json
from openrayzer.data.preparing.verifying import verify as verify_source

VERIFY = """Decode every frame and check every camera; print one line per scene.

    openrayzer prepare verify --from chunks /data/re10k --split test
    openrayzer prepare verify --from dl3dv /data/dl3dv --output report.json
    openrayzer prepare verify --source '{"type": "images", "root": "/data/clips", "follow_links": true}'

A camera must be finite, its rotation must be a rotation and not mirrored, and its intrinsics must be plausible: focal
lengths of 0.1 to 20 image sides, principal point in the middle 60 % of the image, square pixels. Different frame sizes
and a camera that does not move are remarks, not faults. The exit code is 1 if there is a fault."""


def add_verify(commands: Commands) -> None:
    """Add the parser of ``verify``."""
    parser = add_command(commands, "verify", VERIFY, verify)
    add_source(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the full report to FILE, as JSON")
    add_processes(parser)


def verify(arguments: Namespace) -> int:
    """Verify every frame and camera of a dataset."""
    processes = processes_of(arguments)
    source = open_source(arguments, *([arguments.output] if arguments.output else []))
    report = verify_source(source, processes=processes)
    for scene in report.scenes:
        usable = scene.num_frames - len(scene.broken)
        notes = [f"{len(scene.cameras)} wrong cameras"] * bool(scene.cameras) + list(scene.remarks)
        print("; ".join([f"{scene.key}: {usable} of {scene.num_frames} frames usable", *notes]))
    print(f"{len(report.scenes)} scenes, {report.num_usable} of {report.num_frames} frames usable, "
          f"{len(report.problems)} problem(s)")  # fmt: skip
    if arguments.output is not None:
        write_json(arguments.output, report.as_json())
    return report_problems(report.problems)
