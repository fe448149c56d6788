"""Compare runs and evaluations: one table with the cost of training, and differences scene by scene.

    python tools/compare_runs.py runs/rayzer_a runs/rayzer_b
    python tools/compare_runs.py results/a results/b --metric ssim --method context_only --output results/a_and_b
    python tools/compare_runs.py runs/* --output results/all

This is ``openrayzer compare`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["compare"].main

if __name__ == "__main__":
    run_tool(main)
