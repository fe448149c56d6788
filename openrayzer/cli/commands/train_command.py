"""Train an experiment.

    openrayzer train --exp rayzer_demo --set train.steps=20 --output runs/try
    openrayzer train --exp my_experiment.json --data /data/re10k
    deepspeed --module openrayzer.cli train --exp rayzer_dl3dv --data /data/dl3dv
    torchrun --nproc_per_node 8 -m openrayzer.cli train --exp rayzer_dl3dv --data /data/dl3dv
    srun --ntasks-per-node 8 openrayzer train --exp rayzer_dl3dv --data /data/dl3dv
    openrayzer train --exp rayzer_dl3dv --slurm partition=gpu nodes=4 gpus_per_node=8 hours=24

The output folder receives experiment.json, metrics.jsonl, checkpoints/, samples/, evaluation/ and train.log. The same
command again continues the run where it stopped.

Exit code: 0 finished; 1 an unexpected error, with a traceback; 2 the input is wrong or a checkpoint could not be
written; 3 bad steps, a hang or a lost process stopped the run; 130, 143, 138 interrupted by Ctrl-C, SIGTERM or SIGUSR1
(SLURM's early signal), after a checkpoint. A second Ctrl-C ends the run at once.
"""

from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import add_experiment_arguments, command_parser


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("train", __doc__)
    add_experiment_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="run folder (default: runs/<name of the experiment>)"
    )
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|PATH",
        help="auto (default): continue the run in the output folder, if there is one; none: refuse an output folder "
        "that holds a run; PATH: continue from this checkpoint or run folder",
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="submit the training to SLURM, and again at its time limit until it is finished; values as for sbatch: "
        "partition=gpu nodes=4 gpus_per_node=8 hours=24 account=NAME ...; dry prints the script and submits nothing",
    )
    parser.add_argument("--local_rank", type=int, help=SUPPRESS)  # given by the deepspeed launcher
    return parser


def run(arguments: Namespace) -> int:
    """Build the experiment and train it."""
    from openrayzer.composer import load_experiment
    from openrayzer.machine.distributed import check_local_processes

    if not arguments.slurm:
        check_local_processes()
    plan = load_experiment(arguments.exp, overrides=arguments.set, data_roots=arguments.data)
    run_folder = arguments.output or Path("runs") / arguments.exp.stem
    if arguments.slurm:
        from openrayzer.cli.commands.slurm_training import train_on_slurm

        return train_on_slurm(arguments, run_folder, plan)
    from openrayzer.machine.random_state import seed_all  # slow imports come after the experiment is checked
    from openrayzer.training.run import train

    seed_all(plan.resolved["train"]["seed"])  # the same weights on every process
    return train(plan.build(), resolved=plan.resolved, run_folder=run_folder, resume=arguments.resume)
