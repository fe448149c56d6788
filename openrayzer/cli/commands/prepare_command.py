"""Prepare data sets for training and evaluation.

    openrayzer prepare index /data/re10k
    openrayzer prepare verify --from chunks /data/re10k
    openrayzer prepare convert --from dl3dv /data/dl3dv --output /data/dl3dv_256 --short_side 256
    openrayzer prepare split --from dl3dv /data/dl3dv --output lists --benchmark benchmark.csv
    openrayzer prepare pairs --from chunks /data/re10k --split test --output index.json
    openrayzer prepare overlap --from chunks /data/re10k --output overlap.json
    openrayzer prepare stats --from chunks /data/re10k --output stats
    openrayzer prepare merge /data/dl3dv_256

Every command explains its options with --help. A command writes only its output and never runs code from a file.

Exit code: 0 done; 1 the data have a fault; 2 an option is wrong; 130 and 143 interrupted.
"""

import sys
from argparse import ArgumentParser, Namespace
from io import TextIOWrapper
from typing import Any

from openrayzer.cli import command_parser, exit_at_sigterm, print_error
from openrayzer.composer import construct, plan
from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.data.commands.convert_command import add_convert
from openrayzer.data.commands.index_commands import add_index, add_process
from openrayzer.data.commands.merge_command import add_merge
from openrayzer.data.commands.overlap_command import add_overlap
from openrayzer.data.commands.pairs_command import add_pairs
from openrayzer.data.commands.source_options import DATA_WRONG
from openrayzer.data.commands.split_command import add_split
from openrayzer.data.commands.statistics_command import add_stats
from openrayzer.data.commands.verify_command import add_verify
from openrayzer.interfaces import REGISTRIES


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("prepare", __doc__)
    parser.set_defaults(build=build)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    adders = (add_index, add_verify, add_convert, add_split, add_pairs, add_overlap, add_stats, add_merge, add_process)
    for add in adders:
        add(commands)
    return parser


def run(arguments: Namespace) -> int:
    """Run the chosen command."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be UTF-8
    try:
        with exit_at_sigterm():  # a preempted command removes its unfinished files and its lock
            return arguments.run(arguments)
    except NoUsableSceneError as error:
        print_error(error)
        return DATA_WRONG


def build(spec: dict[str, Any], interface: type, *, path: str) -> Any:
    """The component that a JSON object describes; ``path`` names the object in messages."""
    return construct(plan(spec, interface, registries=REGISTRIES, path=path))
