"""Check in a minute whether the machines of a cluster are fit for a run.

    deepspeed --hostfile hostfile tools/check_cluster.py --output /shared/runs --exp experiments/rayzer_dl3dv.json
    torchrun --nproc_per_node 8 tools/check_cluster.py --output runs
    python tools/check_cluster.py --output runs --exp experiments/rayzer_demo.json

This is ``openrayzer check-cluster`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["check-cluster"].main

if __name__ == "__main__":
    run_tool(main)
