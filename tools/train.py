"""Train an experiment.

    deepspeed tools/train.py --exp experiments/rayzer_dl3dv.json --data /data/dl3dv
    python    tools/train.py --exp experiments/rayzer_demo.json --set train.steps=20 --output runs/try
    torchrun --nproc_per_node 2 tools/train.py --exp ...

This is ``openrayzer train`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["train"].main

if __name__ == "__main__":
    run_tool(main)
