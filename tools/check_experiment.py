"""Check experiment files without training, and print the cost of a run.

    python tools/check_experiment.py experiments/rayzer_dl3dv.json
    python tools/check_experiment.py experiments/*.json --ranks 8
    python tools/check_experiment.py experiments/rayzer_demo.json --set train.steps=5 --data /data/dl3dv

This is ``openrayzer check`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["check"].main

if __name__ == "__main__":
    run_tool(main)
