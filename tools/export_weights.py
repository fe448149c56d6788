"""Export the weights of a run to a folder that can be published.

    python tools/export_weights.py --run runs/rayzer_demo --output rayzer-demo --license apache-2.0
    python tools/export_weights.py --run runs/imported --output rayzer-re10k --name me/rayzer-re10k

This is ``openrayzer export-weights`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["export-weights"].main

if __name__ == "__main__":
    run_tool(main)
