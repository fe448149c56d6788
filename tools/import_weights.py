"""Import weights of a published system into a run folder, or compare its recorded outputs with ours.

    python tools/import_weights.py --arch lvsm-d --weights ckpt.pt --output runs/lvsm
    python tools/import_weights.py --check golden/*.safetensors

This is ``openrayzer import-weights`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["import-weights"].main

if __name__ == "__main__":
    run_tool(main)
