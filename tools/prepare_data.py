"""Prepare data sets for training and evaluation.

    python tools/prepare_data.py index /data/re10k
    python tools/prepare_data.py verify --from chunks /data/re10k
    python tools/prepare_data.py convert --from dl3dv /data/dl3dv --output /data/dl3dv_256 --short_side 256

This is ``openrayzer prepare`` in a clone. ``--help`` lists its commands.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["prepare"].main

if __name__ == "__main__":
    run_tool(main)
