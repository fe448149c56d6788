"""Export the weights of a run to a folder that can be published.

    python tools/export_weights.py --run runs/rayzer_demo --output rayzer-demo --license apache-2.0
    python tools/export_weights.py --run runs/imported --output rayzer-re10k --name me/rayzer-re10k
    hf upload me/rayzer-re10k rayzer-re10k

The folder holds model.safetensors (float32), config.json (the experiment with every default written out, which
tools/train.py reads) and README.md (a model card with metrics). openrayzer.load_model takes the folder, and after the
upload to the Hugging Face hub its name there.

Exit code: 0 done; 2 wrong input, nothing is written.
"""

import argparse
from pathlib import Path

from openrayzer.cli import run_tool


def main() -> int:
    """Parse arguments, export, print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run folder, imported folder, or exported folder"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write; must not exist or be empty"
    )
    parser.add_argument(
        "--checkpoint", default="latest", metavar="NAME", help="latest (default), best, or a name, e.g. step_00001000"
    )
    parser.add_argument(
        "--weights",
        default="auto",
        choices=("auto", "ema", "raw"),
        help="ema: exponential moving average; raw: weights of the last step; auto (default): average if there is one",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="identifier on the hub, e.g. apache-2.0 (default: the licence of imported weights)",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="NAME or OWNER/NAME on the hub (default: the name of the folder)"
    )
    arguments = parser.parse_args()
    from openrayzer.weights.export import export_weights  # slow to import

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
