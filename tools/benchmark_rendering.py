"""Measure how fast each renderer renders many views of one scene, with one view or several views in a call.

    python tools/benchmark_rendering.py experiments/rayzer_demo.json
    python tools/benchmark_rendering.py experiments/lvsm_re10k.json --targets 4 --rounds 1
    python tools/benchmark_rendering.py experiments/rayzer_latent_demo.json --set shared.width=384 model.num_latents=512

This is ``openrayzer benchmark-rendering`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["benchmark-rendering"].main

if __name__ == "__main__":
    run_tool(main)
