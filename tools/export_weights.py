"""Weights of a run as a folder that can be published.

    python tools/export_weights.py --run runs/rayzer_demo --output rayzer-demo --license apache-2.0
    python tools/export_weights.py --run runs/imported --output rayzer-re10k --name me/rayzer-re10k
    hf upload me/rayzer-re10k rayzer-re10k

The folder gets model.safetensors (float32), config.json (the experiment, every default written out, an experiment
file for tools/train.py) and README.md (a model card with what was measured). openrayzer.load_model takes the folder,
or, once it is uploaded to the Hugging Face hub, its name.

Exit code: 0 done; 2 something given is wrong, and then nothing is written.
"""

import argparse
from pathlib import Path

from openrayzer.cli import run_tool


def main() -> int:
    """Parse arguments, export, say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run folder, imported folder, or exported folder"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write; must not exist, or be empty"
    )
    parser.add_argument(
        "--checkpoint", default="latest", metavar="NAME", help="latest (default), best, or one, e.g. step_00001000"
    )
    parser.add_argument(
        "--weights",
        default="auto",
        choices=("auto", "ema", "raw"),
        help="ema: averaged over the steps; raw: of the last step; auto (default): averaged where the run has them",
    )
    parser.add_argument(
        "--license", metavar="ID", help="as the hub names it, e.g. apache-2.0 (default: what an import said)"
    )
    parser.add_argument("--name", metavar="NAME", help="NAME or OWNER/NAME on the hub (default: that of the folder)")
    arguments = parser.parse_args()
    from openrayzer.weights.export import export_weights  # slow: only once arguments are right

    exported = export_weights(
        arguments.run,
        arguments.output,
        checkpoint=arguments.checkpoint,
        weights=arguments.weights,
        license=arguments.license,
        name=arguments.name,
    )
    for note in exported.notes:
        print(f"note: {note}")
    print(f"{arguments.output}: {exported.num_weights:,} weights, {exported.steps} steps trained")
    print(f"  use     openrayzer.load_model({str(arguments.output)!r})")
    print(f"  upload  hf upload {exported.name} {arguments.output}")
    return 0


if __name__ == "__main__":
    run_tool(main)
