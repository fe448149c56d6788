"""Check this installation: packages, devices and libraries, with a remedy for each problem.

    openrayzer doctor
    openrayzer doctor --output /data/runs

The checks: Python, the required packages and the extras with their versions; PyTorch, the driver and each GPU; a small
call of every attention backend on a GPU, among them the operators of xformers; DeepSpeed and the operators that it can
compile; gsplat; a video of two frames with PyAV; pinned and shared memory; free disk space. Without a GPU, openrayzer
trains on the CPU, and the table says so.

Exit code: 0 training works here, possibly with warnings; 1 it does not, the last lines give the reasons.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from openrayzer.cli.arguments import command_parser

if TYPE_CHECKING:
    from openrayzer.planning.cluster.findings import Finding

BROKEN = 1


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("doctor", __doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="folder for runs (default: runs)"
    )
    return parser


def run(arguments: Namespace) -> int:
    """Run the checks and print the table. The first checks need no package but DeepSpeed's requirements."""
    from openrayzer.planning.cluster.findings import Finding, table
    from openrayzer.planning.cluster.requirements import check_extras, check_packages, check_python

    findings, where = [check_python(), *check_packages(), *check_extras()], ""
    try:
        import torch
    except Exception as error:  # a broken package may raise any exception
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        findings.append(Finding("torch", "FAILS", f"{why}: pip install --force-reinstall torch torchvision"))
    else:
        findings += check_works(arguments.output)
        where = f"{torch.cuda.device_count()} GPU(s)" if torch.cuda.is_available() else "the CPU"
    works = all(finding.verdict != "FAILS" for finding in findings)
    print(table(findings))
    print(f"training works here, on {where}" if works else "training does NOT work here")
    return 0 if works else BROKEN


def check_works(output: Path) -> "list[Finding]":
    """The checks that compute something. A missing GPU is a warning, because training works on a CPU, too."""
    import torch

    from openrayzer.planning.cluster.this_machine import check_machine
    from openrayzer.planning.cluster.working_libraries import check_operators

    findings = [finding for finding in check_machine(output) if finding.what != "python"]
    if any(finding.what == "deepspeed" and finding.verdict == "ok" for finding in findings):
        findings.append(check_operators())
    if not torch.cuda.is_available():
        excused = [one.what in ("torch", "driver") and one.verdict == "FAILS" for one in findings]
        findings = [
            replace(one, verdict="warning") if excuse else one for one, excuse in zip(findings, excused, strict=True)
        ]
    return [*findings, *check_video()]


def check_video() -> "Iterator[Finding]":
    """Whether PyAV, if it is installed, writes a video of two frames."""
    import numpy as np

    from openrayzer.interfaces import InputError
    from openrayzer.planning.cluster.findings import Finding
    from openrayzer.planning.cluster.installation import package_version
    from openrayzer.video.mp4 import Mp4Writer

    version = package_version("av")
    if version == "not installed":
        return  # the extra "video" is absent
    with TemporaryDirectory() as folder:
        try:
            with Mp4Writer(Path(folder) / "two_frames.mp4", fps=30.0) as video:
                for grey in (0, 255):
                    video.add(np.full((16, 16, 3), grey, np.uint8))
        except (InputError, ImportError) as error:
            yield Finding("PyAV", "warning", f"{version}; {error}; pip install --force-reinstall av")
            return
    yield Finding("PyAV", "ok", f"{version}, writes H.264")
