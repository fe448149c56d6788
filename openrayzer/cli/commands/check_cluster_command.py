"""Check in a minute whether the machines of a cluster are fit for a run.

    deepspeed --hostfile hostfile --module openrayzer.cli check-cluster --output /shared/runs --exp rayzer_dl3dv
    torchrun --nproc_per_node 8 -m openrayzer.cli check-cluster --output runs
    openrayzer check-cluster --output runs --exp rayzer_demo

Start it with the launcher that will start the training. The checks:

- ranks and devices, equal versions on all ranks, clocks, free memory
- an all-reduce: latency, bandwidth, right sum
- the output folder: shared by all ranks, atomic rename and replace, speed with fsync, free space for the checkpoints
- with --exp: whether every rank can load clips, and how fast

Exit code: 0 fit, possibly with warnings; 2 wrong input; 3 not fit, the last lines give the reasons.
"""

from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path

import torch

from openrayzer.cli import add_change_arguments, command_parser
from openrayzer.composer import load_experiment
from openrayzer.settings import Experiment

NOT_FIT = 3


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("check-cluster", __doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="folder for runs (default: runs)"
    )
    parser.add_argument(
        "--exp",
        type=Path,
        metavar="EXPERIMENT",
        help="experiment, a file or a name; the tool also checks its data and the size of its checkpoints",
    )
    add_change_arguments(parser)
    parser.add_argument("--local_rank", type=int, help=SUPPRESS)  # given by the deepspeed launcher
    return parser


def run(arguments: Namespace) -> int:
    """Run the checks and print the table."""
    from openrayzer.machine.distributed import check_local_processes

    check_local_processes()
    experiment = None
    if arguments.exp is not None:
        plan = load_experiment(arguments.exp, overrides=arguments.set, data_roots=arguments.data)
        with torch.device("meta"):
            experiment = plan.build()
    return check(experiment, arguments.output)


def check(experiment: Experiment | None, output: Path) -> int:
    """Run the checks on all processes; returns the exit code."""
    from openrayzer.machine.distributed import started
    from openrayzer.planning.cluster.clip_rate import check_clips  # slow to import, so after the arguments are checked
    from openrayzer.planning.cluster.findings import table
    from openrayzer.planning.cluster.links import check_links
    from openrayzer.planning.cluster.machines import check_clocks, check_memory, check_ranks, check_versions
    from openrayzer.planning.cluster.shared_folder import check_folder
    from openrayzer.planning.cost_report import Setting
    from openrayzer.planning.memory import checkpoint_bytes
    from openrayzer.training.deepspeed_config import load_deepspeed_config, micro_batch_size

    weights, needed = 0, 0.0
    with started() as process:
        if experiment is not None:
            train, model = experiment.train, experiment.model
            config = load_deepspeed_config(experiment.deepspeed, train, world_size=process.world_size)
            micro = micro_batch_size(train, world_size=process.world_size)
            setting = Setting(experiment, config, process.world_size, micro)
            weights = sum(weight.numel() for weight in model.parameters())
            size = checkpoint_bytes(setting.trained, config, averaged=setting.averaged, state=setting.state)
            needed = size * (train.keep_checkpoints + 1)
        findings = [*check_ranks(process), check_versions(process), check_clocks(process), check_memory(process)]
        findings += [*check_links(process, weights=weights), *check_folder(process, output, needed=needed)]
        if experiment is not None:
            findings.append(
                check_clips(
                    process, experiment.data, micro_batch=micro, accumulation=train.accumulation, seed=train.seed
                )
            )
        if process.is_first:
            print(table(findings), flush=True)
        return NOT_FIT if any(finding.verdict == "FAILS" for finding in findings) else 0
