"""Evaluate a model on held-out clips.

    python tools/evaluate.py --run runs/rayzer_demo --output results/demo
    python tools/evaluate.py --run runs/rayzer_demo --output results/demo --views 1 2 3 --sanity --transfer

This is ``openrayzer evaluate`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["evaluate"].main

if __name__ == "__main__":
    run_tool(main)
