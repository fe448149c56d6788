"""Measure the training step of an experiment, or of two sides in turn: speed, time of each part, memory.

    python tools/benchmark_training.py experiments/rayzer_demo.json
    python tools/benchmark_training.py experiments/rayzer_demo.json experiments/rayder_demo.json
    python tools/benchmark_training.py experiments/rayzer_latent_demo.json --against ddp --set shared.width=384

This is ``openrayzer benchmark-training`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["benchmark-training"].main

if __name__ == "__main__":
    run_tool(main)
