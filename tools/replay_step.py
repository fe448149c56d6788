"""Repeat a skipped training step from its dump, and show the first modules with values that are not finite.

    python tools/replay_step.py runs/rayzer_dl3dv/bad_steps/step_00012345

This is ``openrayzer replay`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["replay"].main

if __name__ == "__main__":
    run_tool(main)
