"""Measure how fast each renderer renders many views of one scene, with one view or several views in a call.

    python tools/benchmark_rendering.py experiments/rayzer_demo.json
    python tools/benchmark_rendering.py experiments/lvsm_re10k.json --targets 4 --rounds 1
    python tools/benchmark_rendering.py experiments/rayzer_latent_demo.json --set shared.width=384 model.num_latents=512

The baseline is "joint", the decoder of LVSM's encoder-decoder and of RayZer, called once per view: the view's tokens
and the whole memory in one sequence. "reading" is a variant, which needs its own training: the view's tokens attend to
a memory that they do not change. The keys and values of this memory are computed once per call, or once per scene if
the scene is prepared. Both give the same images; the last column has the largest difference of a pixel.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser

from openrayzer.cli import add_change_arguments, run_tool


def main() -> int:
    """Parse the arguments, measure and print the table."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "experiment", type=Path, metavar="EXPERIMENT", help="experiment file of a model with a renderer"
    )
    add_change_arguments(parser)
    parser.add_argument(
        "--contexts", type=int, default=16, metavar="N", help="context views of the scene (default: 16)"
    )
    parser.add_argument("--targets", type=int, default=60, metavar="N", help="views to render (default: 60)")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="views in a call (default: 8)")
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="number of rounds; the median counts (default: 3)"
    )
    parser.add_argument("--float32", action="store_true", help="compute in float32 instead of bfloat16")
    parser.add_argument("--output", type=Path, default=None, metavar="FILE", help="write the measurements as JSON")
    arguments = parser.parse_args()
    from openrayzer.benchmarks.rendering_speed import measure
    from openrayzer.data.preparing.folders import write_json

    found = measure(
        arguments.experiment,
        overrides=arguments.set,
        contexts=arguments.contexts,
        targets=arguments.targets,
        batch=arguments.batch,
        rounds=arguments.rounds,
        bf16=not arguments.float32,
    )
    print(f"{'renderer':<38}{'weights':>12}{'ms per view':>13}{'minimum':>9}{'times as fast':>15}{'difference':>12}")
    for line in found:
        each, minimum = (seconds / line.views * 1e3 for seconds in (line.seconds.median, line.seconds.minimum))
        print(
            f"{line.name:<38}{line.weights:>12,}{each:>13.2f}{minimum:>9.2f}{line.faster:>15.2f}{line.difference:>12.1e}"
        )
    if arguments.output is not None:
        write_json(arguments.output, [asdict(line) for line in found])
    return 0


if __name__ == "__main__":
    run_tool(main)
