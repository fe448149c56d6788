"""Export the weights of a run to a folder that can be published.

    openrayzer export-weights --run runs/rayzer_demo --output rayzer-demo --license apache-2.0
    openrayzer export-weights --run runs/imported --output rayzer-re10k --name me/rayzer-re10k
    hf upload me/rayzer-re10k rayzer-re10k

The folder holds model.safetensors (float32), config.json (the experiment with every default written out, which
`openrayzer train` reads) and README.md (a model card with metrics). openrayzer.load_model takes the folder or, after
the upload to the Hugging Face hub, its name there.

Exit code: 0 done; 2 wrong input, nothing is written.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import command_parser


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("export-weights", __doc__)
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
    return parser


def run(arguments: Namespace) -> int:
    """Export the weights and print the result."""
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
