"""Check in half a minute whether this installation can train on the GPUs of this machine.

    openrayzer check-gpu
    openrayzer check-gpu --output /data/runs --json gpu.json

The checks: Python, PyTorch's CUDA build, the driver, each GPU (a product and a convolution with known results),
bfloat16, cuDNN, NCCL, a small call of every attention backend forward and backward, the backend that training would
use, train.compile, DeepSpeed, pinned and shared memory, and free disk space. Each problem comes with its remedy.
`openrayzer check-cluster` checks several processes and machines.

Exit code: 0 ready, possibly with warnings; 1 not ready, the last lines give the reasons; 2 wrong input.
"""

import logging
import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from openrayzer.cli import command_parser

if TYPE_CHECKING:
    from openrayzer.planning.cluster.findings import Finding

NOT_READY = 1


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("check-gpu", __doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="folder for runs (default: runs)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    return parser


def run(arguments: Namespace) -> int:
    """Run the checks and print the table."""
    from openrayzer.data.preparing.folders import write_json
    from openrayzer.interfaces import InputError
    from openrayzer.planning.cluster.findings import table  # slow to import, so after the arguments are checked
    from openrayzer.planning.cluster.installation import installation

    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        raise InputError(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    with quiet():  # the table contains the warnings of attention
        findings = list(checks(arguments.output))
    ready = all(finding.verdict != "FAILS" for finding in findings)
    print(table(findings))
    print("ready to train on the GPUs of this machine" if ready else "NOT ready to train on a GPU of this machine")
    if arguments.json is not None:
        found = {"ready": ready, "installation": installation(), "findings": [asdict(each) for each in findings]}
        write_json(arguments.json, found)
    return 0 if ready else NOT_READY


@contextmanager
def quiet() -> Iterator[None]:
    """Log errors only."""
    logger = logging.getLogger("openrayzer")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def checks(output: Path) -> "Iterator[Finding]":
    """All checks; without a GPU, only the checks that need none."""
    import torch

    from openrayzer.planning.cluster import gpus, working_libraries
    from openrayzer.planning.cluster.findings import Finding

    yield Finding("python", "ok", platform.python_version())
    yield gpus.check_torch()
    yield gpus.check_driver()
    if torch.cuda.is_available():
        several = list(gpus.check_gpus())
        yield from several
        yield gpus.check_nccl()
        if not any(
            one.verdict == "FAILS" and one.what.startswith("GPU") for one in several
        ):  # otherwise all checks would fail
            device = torch.device("cuda", 0)
            yield from working_libraries.check_attention(device)
            yield working_libraries.check_compiler(device)
            yield gpus.check_pinned_memory()
    yield working_libraries.check_xformers()
    yield working_libraries.check_deepspeed()
    yield gpus.check_shared_memory()
    yield gpus.check_disk(output)
