"""Measure the training step of an experiment, or of two sides in turn: speed, time of each part, memory.

    openrayzer benchmark-training rayzer_demo
    openrayzer benchmark-training rayzer_demo rayder_demo
    openrayzer benchmark-training rayzer_latent_demo --against ddp --set shared.width=384
    openrayzer benchmark-training rayzer_demo --against HEAD~20
    openrayzer benchmark-training rayzer_demo --curves
    openrayzer benchmark-training rayzer_latent_demo --planned 2 4 --set train.batch_size=4
    openrayzer benchmark-training rayzer_dl3dv --clips noise --set train.batch_size=1 --steps 1
    openrayzer benchmark-training rayzer_dl3dv --clips noise --largest_batch

MFU is the model FLOPs utilisation: the FLOP/s of the step (matrix products, convolutions and attention), divided by the
FLOP/s of bare bf16 matrix products on the same device. These are large square products in one row of the table, and the
products of the step itself in another. Two sides stay in memory and train a few steps in turn, so that other load on
the machine affects both. On a GPU, events in its stream give the times, and memory is PyTorch's peak allocation.
"""

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from openrayzer.cli import add_change_arguments, command_parser
from openrayzer.interfaces import InputError


def run(arguments: Namespace) -> int:
    """Measure and print the table."""
    from openrayzer.benchmarks.training_speed import TrainingSide, measure, rates
    from openrayzer.benchmarks.training_table import table
    from openrayzer.benchmarks.worktree import worktree
    from openrayzer.composer import experiment_file
    from openrayzer.data.preparing.folders import write_json

    side = TrainingSide(
        name=arguments.experiment.stem,
        experiment=experiment_file(arguments.experiment).resolve(),
        overrides=tuple(arguments.set),
        data=tuple(arguments.data),
        ranks=arguments.ranks or (2 if arguments.against == "ddp" else 1),
        clips=arguments.clips,
        largest_batch=arguments.largest_batch,
    )
    if arguments.curves:
        return _curves(arguments)
    if arguments.planned:
        return _planned(arguments)
    if arguments.other and arguments.against:
        raise InputError("give another experiment or --against, not both")
    with ExitStack() as stack:
        sides = [side]
        if arguments.other:
            sides.append(
                replace(side, name=arguments.other.stem, experiment=experiment_file(arguments.other).resolve())
            )
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


def _planned(arguments: Namespace) -> int:
    from openrayzer.benchmarks.planned_steps import planned_steps, planned_table
    from openrayzer.composer import experiment_file, load_experiment
    from openrayzer.data.preparing.folders import write_json

    if arguments.other or arguments.against or arguments.ranks or min(arguments.planned) < 2:
        raise InputError("--planned takes one experiment and numbers of ranks from 2 on, without --against and --ranks")
    resolved = load_experiment(arguments.experiment, overrides=arguments.set).resolved
    found = planned_steps(
        experiment_file(arguments.experiment).resolve(), arguments.planned, clips=resolved["train"]["batch_size"],
        overrides=arguments.set, rounds=arguments.rounds, steps=arguments.steps, warm_up=arguments.warm_up,
    )  # fmt: skip
    print("\n".join(planned_table(found)), flush=True)
    if arguments.output is not None:
        write_json(arguments.output, [asdict(one) for one in found])
    return 0


def _curves(arguments: Namespace) -> int:
    from openrayzer.benchmarks.cost_curves import curves, table
    from openrayzer.data.preparing.folders import write_json

    if arguments.other or arguments.against:
        raise InputError("--curves takes one experiment")
    costs = list(curves(arguments.experiment, overrides=arguments.set, limit=arguments.limit * 1e12))
    print("\n".join(table(costs)), flush=True)
    if arguments.output is not None:
        write_json(arguments.output, [asdict(cost) for cost in costs])
    return 0


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("benchmark-training", __doc__)
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="experiment, a file or a name")
    parser.add_argument("other", nargs="?", type=Path, metavar="OTHER", help="a second experiment to compare with")
    parser.add_argument(
        "--against",
        default="",
        metavar="ddp|COMMIT",
        help="instead of OTHER: compare with plain DistributedDataParallel on two processes, or with another commit",
    )
    add_change_arguments(parser)
    parser.add_argument(
        "--clips",
        choices=["data", "noise"],
        default="data",
        help="data loads clips as training does (default); noise needs no data and no loading time",
    )
    parser.add_argument(
        "--largest_batch",
        action="store_true",
        help="use the largest micro-batch of noise that fits into the GPU instead of the experiment's",
    )
    parser.add_argument(
        "--ranks", type=int, default=0, metavar="N", help="number of processes (default: 1; 2 against ddp)"
    )
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="optimizer steps in a round (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds of each side (default: 5)")
    parser.add_argument(
        "--warm_up", type=int, default=3, metavar="N", help="steps before the measured ones (default: 3)"
    )
    parser.add_argument(
        "--curves",
        action="store_true",
        help="measure instead how the cost of a step and of a frame grows with views, resolution and width",
    )
    parser.add_argument(
        "--planned", type=int, nargs="+", default=[], metavar="N",
        help="compare the plan of openrayzer check --gpus with measured steps of N processes of one thread, each with "
        "train.batch_size clips, after a calibration on one process",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=float, default=0.5, metavar="TFLOP", help="largest step that --curves measures (default: 0.5)"
    )
    parser.add_argument("--output", type=Path, default=None, metavar="FILE", help="write the measurements as JSON")
    return parser
