"""Measure attention backends in turn, on the calls of view synthesis models.

    python tools/benchmark_attention.py
    python tools/benchmark_attention.py --views 4 16 --tokens 256 --heads 12x64 6x128 --dtypes bfloat16
    python tools/benchmark_attention.py --output speed/attention

This is ``openrayzer benchmark-attention`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["benchmark-attention"].main

if __name__ == "__main__":
    run_tool(main)
