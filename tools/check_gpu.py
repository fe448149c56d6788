"""Check in half a minute whether this installation can train on the GPUs of this machine.

    python tools/check_gpu.py
    python tools/check_gpu.py --output /data/runs --json gpu.json

This is ``openrayzer check-gpu`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["check-gpu"].main

if __name__ == "__main__":
    run_tool(main)
