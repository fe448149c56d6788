"""Train an experiment.

    deepspeed tools/train.py --exp experiments/rayzer_dl3dv.json --data /data/dl3dv
    python    tools/train.py --exp experiments/rayzer_demo.json --set train.steps=20 --output runs/try
    torchrun --nproc_per_node 2 tools/train.py --exp ...

The output folder receives experiment.json, metrics.jsonl, checkpoints/, samples/, evaluation/ and train.log. The same
command again goes on where the run stopped.

Exit code: 0 finished; 1 an unexpected error, with a traceback; 2 the input is wrong or a checkpoint could not be
written; 3 training stopped because it could not go on; 130, 143, 138 interrupted by Ctrl-C, SIGTERM or SIGUSR1 (SLURM's
early signal), after a checkpoint. A second Ctrl-C ends the run at once.
"""

import argparse
from pathlib import Path

from openrayzer.cli import add_experiment_arguments, run_tool
from openrayzer.composer import load_experiment


def main() -> int:
    """Parse arguments, build the experiment, train it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_experiment_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="run folder (default: runs/<name of the experiment>)"
    )
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|PATH",
        help="auto (default): go on with the run in the output folder, if there is one; none: refuse an output folder "
        "that holds a run; PATH: go on from this checkpoint or run folder",
    )
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # given by the deepspeed launcher
    arguments = parser.parse_args()

    from openrayzer.machine.distributed import check_local_processes

    check_local_processes()
    plan = load_experiment(arguments.exp, overrides=arguments.set, data_roots=arguments.data)
    from openrayzer.machine.random_state import seed_all  # slow imports come after the experiment is checked
    from openrayzer.training.run import train

    seed_all(plan.resolved["train"]["seed"])  # the same weights on every process
    run_folder = arguments.output or Path("runs") / arguments.exp.stem
    return train(plan.build(), resolved=plan.resolved, run_folder=run_folder, resume=arguments.resume)


if __name__ == "__main__":
    run_tool(main)
