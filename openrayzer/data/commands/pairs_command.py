"""The command ``pairs``: an evaluation index with context and target frames of each scene."""

from argparse import Namespace
from pathlib import Path

from openrayzer.data.chunk_files.scan import NoUsableSceneError
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
from openrayzer.data.preparing.view_pairs import PairRule, make_pairs

PAIRS = """Choose context and target frames of each scene: an evaluation index in pixelSplat's format.

    openrayzer prepare pairs --from chunks /data/re10k --split test --output index.json
    openrayzer prepare pairs --from chunks /data/re10k --split test --overlap 0.3 0.6 --output medium.json
    openrayzer prepare pairs --from images /data/clips --context 4 --gap 8 30 --output clips.json

The index is {scene: {"context": [...], "target": [...]}}, with null for a scene without a fitting choice. If no scene
has a fitting choice, no index is written, and the exit code is 1. The first and the last context frame are a random gap
apart, other context frames are evenly spaced between them, and targets are drawn between them. Unreadable frames are
not chosen. Equal seeds give equal choices.

--overlap also restricts the overlap of the first and the last context frame. The overlap is the share of the points of
one camera that the other camera sees, the smaller value of both directions. The points lie on a grid of 12 x 12 rays,
at 0.5, 1, 2, 4 and 8 times the extent of the cameras of the scene. Occlusion is unknown, so the overlap depends only on
the cameras, not on the images."""


def add_pairs(commands: Commands) -> None:
    """Add the parser of ``pairs``."""
    parser = add_command(commands, "pairs", PAIRS, pairs)
    add_source(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file for the index")
    parser.add_argument("--context", type=int, default=2, metavar="N", help="number of context frames (default: 2)")
    parser.add_argument("--target", type=int, default=3, metavar="N", help="number of target frames (default: 3)")
    parser.add_argument("--gap", type=int, nargs=2, default=(45, 135), metavar=("SMALLEST", "LARGEST"),
                        help="frames from the first to the last context frame (default: 45 135)")  # fmt: skip
    parser.add_argument("--overlap", type=float, nargs=2, metavar=("SMALLEST", "LARGEST"),
                        help="overlap of the first and the last context frame, from 0 to 1 (default: any)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice (default: 0)")
    add_processes(parser)


def pairs(arguments: Namespace) -> int:
    """Write an evaluation index."""
    overlap = None if arguments.overlap is None else (arguments.overlap[0], arguments.overlap[1])
    gap = (arguments.gap[0], arguments.gap[1])
    rule = PairRule(arguments.context, arguments.target, gap, overlap, arguments.seed)
    rule.check()
    processes = processes_of(arguments)
    found, problems = make_pairs(open_source(arguments, arguments.output), rule, processes=processes)
    absent = sum(choice is None for choice in found.values())
    if absent == len(found):
        asked = "" if overlap is None else f" and overlaps of {overlap[0]:g} to {overlap[1]:g}"
        raise NoUsableSceneError(
            f"no scene of {len(found)} has {rule.num_context} context and {rule.num_target} target frames with gaps of "
            f"{gap[0]} to {gap[1]} frames{asked}; {arguments.output} is not written"
        )
    write_json(arguments.output, found)
    print(f"{arguments.output}: {len(found) - absent} scenes with {rule.num_context} context and {rule.num_target} "
          f"target frames, {absent} null")  # fmt: skip
    return report_problems(problems)
