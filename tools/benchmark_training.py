"""Measure the training step of an experiment, or of two sides in turn: speed, what it is spent on, memory.

    python tools/benchmark_training.py experiments/rayzer_demo.json
    python tools/benchmark_training.py experiments/rayzer_demo.json experiments/rayder_demo.json
    python tools/benchmark_training.py experiments/rayzer_demo.json --against ddp --set shared.width=384
    python tools/benchmark_training.py experiments/rayzer_demo.json --against HEAD~20
    python tools/benchmark_training.py experiments/rayzer_demo.json --curves
    python tools/benchmark_training.py experiments/rayzer_dl3dv.json --clips noise --set train.batch_size=1 --steps 1
    python tools/benchmark_training.py experiments/rayzer_dl3dv.json --clips noise --largest_batch

MFU, the model FLOPs utilisation, is what matrix products, convolutions and attention of the step amount to, over what
the device reaches on bare bf16 matrix products: large square ones, and those of the step itself, one by one. Two sides
stay in memory side by side and train a few steps in turn, so that what else the machine does falls on both alike.
On a GPU times lie between events in its stream, and memory is the most that PyTorch has allocated.
"""

import argparse
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from openrayzer.cli import add_change_arguments, run_tool
from openrayzer.interfaces import InputError


def main() -> int:
    """Measure, print a table."""
    arguments = _parser().parse_args()
    from openrayzer.benchmarks.training_speed import TrainingSide, measure, rates
    from openrayzer.benchmarks.training_table import table
    from openrayzer.benchmarks.worktree import worktree
    from openrayzer.data.preparing.folders import write_json

    side = TrainingSide(
        name=arguments.experiment.stem,
        experiment=arguments.experiment.resolve(),
        overrides=tuple(arguments.set),
        data=tuple(arguments.data),
        ranks=arguments.ranks or (2 if arguments.against == "ddp" else 1),
        clips=arguments.clips,
        largest_batch=arguments.largest_batch,
    )
    if arguments.curves:
        return _curves(arguments)
    if arguments.other and arguments.against:
        raise InputError("give another experiment or --against, not both")
    with ExitStack() as stack:
        sides = [side]
        if arguments.other:
            sides.append(replace(side, name=arguments.other.stem, experiment=arguments.other.resolve()))
        elif arguments.against == "ddp":
            sides.append(replace(side, name=f"{side.name}, plain DDP", engine="ddp"))
        elif arguments.against:
            source = stack.enter_context(worktree(arguments.against))
            sides.append(replace(side, name=f"{side.name} at {arguments.against}", source=source))
        measured = measure(sides, rounds=arguments.rounds, steps=arguments.steps, warm_up=arguments.warm_up)
        bare = [rates(each, batch=speed.batch) for each, speed in zip(sides, measured, strict=True)]
    print("\n".join(table(measured, bare, ranks=side.ranks)), flush=True)
    if arguments.output is not None:
        figures = [asdict(speed) | asdict(rate) for speed, rate in zip(measured, bare, strict=True)]
        write_json(arguments.output, figures)
    return 0


def _curves(arguments: Any) -> int:
    from openrayzer.benchmarks.cost_curves import curves, table
    from openrayzer.data.preparing.folders import write_json

    if arguments.other or arguments.against:
        raise InputError("--curves takes one experiment")
    costs = list(curves(arguments.experiment, overrides=arguments.set, limit=arguments.limit * 1e12))
    print("\n".join(table(costs)), flush=True)
    if arguments.output is not None:
        write_json(arguments.output, [asdict(cost) for cost in costs])
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="experiment file")
    parser.add_argument("other", nargs="?", type=Path, metavar="OTHER", help="another one, measured beside it")
    parser.add_argument(
        "--against",
        default="",
        metavar="ddp|COMMIT",
        help="instead of OTHER: the same under plain DistributedDataParallel on two processes, or as of another commit",
    )
    add_change_arguments(parser)
    parser.add_argument(
        "--clips",
        choices=["data", "noise"],
        default="data",
        help="data loads clips as training does (default); noise needs no data and waits for none",
    )
    parser.add_argument(
        "--largest_batch",
        action="store_true",
        help="on a GPU: as many clips of noise in a micro-batch as its memory takes, instead of what EXPERIMENT says",
    )
    parser.add_argument("--ranks", type=int, default=0, metavar="N", help="processes (default: 1; 2 against ddp)")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="optimizer steps per round (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each side, in turn (default: 5)")
    parser.add_argument("--warm_up", type=int, default=3, metavar="N", help="steps before, not measured (default: 3)")
    parser.add_argument(
        "--curves",
        action="store_true",
        help="instead: what a step and a frame cost as views, resolution and width grow",
    )
    parser.add_argument(
        "--limit", type=float, default=0.5, metavar="TFLOP", help="largest step that --curves measures (default: 0.5)"
    )
    parser.add_argument("--output", type=Path, default=None, metavar="FILE", help="write the figures as JSON")
    return parser


if __name__ == "__main__":
    run_tool(main)
