"""A minute that says whether ranks, links, shared folder and data are fit for a run.

    deepspeed --hostfile hostfile tools/check_cluster.py --output /shared/runs --exp experiments/rayzer_dl3dv.json
    torchrun --nproc_per_node 8 tools/check_cluster.py --output runs
    python tools/check_cluster.py --output runs --exp experiments/rayzer_demo.json

Start it as the training will be started. It checks: ranks and devices, versions equal on all ranks, clocks, memory, an
all-reduce (latency, bandwidth, right sum), the output folder (all ranks see it, rename and replace are atomic, speed
with fsync, free space for the checkpoints), and, with --exp, whether every rank can load clips and how fast.

Exit code: 0 fit, warnings included; 2 something given is wrong; 3 not fit, the last lines say why.
"""

import argparse
from pathlib import Path

import torch

from openrayzer.cli import add_change_arguments, run_tool
from openrayzer.composer import load_experiment
from openrayzer.settings import Experiment

NOT_FIT = 3


def main() -> int:
    """Parse arguments, run the checks, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="where runs will be written")
    parser.add_argument("--exp", type=Path, metavar="FILE", help="experiment file: also its data and checkpoints")
    add_change_arguments(parser)
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # given by the deepspeed launcher
    arguments = parser.parse_args()

    from openrayzer.machine.distributed import check_local_processes

    check_local_processes()
    experiment = None
    if arguments.exp is not None:
        plan = load_experiment(arguments.exp, overrides=arguments.set, data_roots=arguments.data)
        with torch.device("meta"):
            experiment = plan.build()
    return check(experiment, arguments.output)


def check(experiment: Experiment | None, output: Path) -> int:
    """All checks, on all processes; the exit code."""
    from openrayzer.machine.distributed import started
    from openrayzer.planning.cluster.clip_rate import check_clips  # slow: only once arguments are right
    from openrayzer.planning.cluster.findings import table
    from openrayzer.planning.cluster.links import check_links
    from openrayzer.planning.cluster.machines import check_clocks, check_memory, check_ranks, check_versions
    from openrayzer.planning.cluster.shared_folder import check_folder
    from openrayzer.planning.memory import checkpoint_bytes
    from openrayzer.training.deepspeed_config import load_deepspeed_config, micro_batch_size

    weights, needed = 0, 0.0
    with started() as process:
        if experiment is not None:
            train, model = experiment.train, experiment.model
            config = load_deepspeed_config(experiment.deepspeed, train, world_size=process.world_size)
            weights = sum(weight.numel() for weight in model.parameters())
            size = checkpoint_bytes(model, config, averaged=train.ema_decay > 0)
            needed = size * (train.keep_checkpoints + 1)
        findings = [*check_ranks(process), check_versions(process), check_clocks(process), check_memory(process)]
        findings += [*check_links(process, weights=weights), *check_folder(process, output, needed=needed)]
        if experiment is not None:
            micro = micro_batch_size(train, world_size=process.world_size)
            findings.append(
                check_clips(
                    process, experiment.data, micro_batch=micro, accumulation=train.accumulation, seed=train.seed
                )
            )
        if process.is_first:
            print(table(findings), flush=True)
        return NOT_FIT if any(finding.verdict == "FAILS" for finding in findings) else 0


if __name__ == "__main__":
    run_tool(main)
