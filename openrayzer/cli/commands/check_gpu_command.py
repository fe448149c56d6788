"""Check in half a minute whether this installation can train on the GPUs of this machine.

    openrayzer check-gpu
    openrayzer check-gpu --output /data/runs --json gpu.json

The checks: Python, PyTorch's CUDA build, the driver, each GPU (a product and a convolution with known results),
bfloat16, cuDNN, NCCL, a small call of every attention backend forward and backward, the backend that training would
use, train.compile, DeepSpeed, pinned and shared memory, and free disk space. Each problem comes with its remedy.
`openrayzer check-cluster` checks several processes and machines, `openrayzer doctor` also the packages, and it accepts
a machine without a GPU.

Exit code: 0 ready, possibly with warnings; 1 not ready, the last lines give the reasons; 2 wrong input.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from openrayzer.cli.arguments import command_parser

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
    from openrayzer.planning.cluster.this_machine import check_machine

    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        raise InputError(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    findings = check_machine(arguments.output)
    ready = all(finding.verdict != "FAILS" for finding in findings)
    print(table(findings))
    print("ready to train on the GPUs of this machine" if ready else "NOT ready to train on a GPU of this machine")
    if arguments.json is not None:
        found = {"ready": ready, "installation": installation(), "findings": [asdict(each) for each in findings]}
        write_json(arguments.json, found)
    return 0 if ready else NOT_READY
