"""Compare the preparation and loading of chunks with the usual preprocessing to PNG files.

    python tools/benchmark_data.py
    python tools/benchmark_data.py --data /data/re10k --output speed.json

This is ``openrayzer benchmark-data`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["benchmark-data"].main

if __name__ == "__main__":
    run_tool(main)
