"""Compare runs and evaluations: one table with the cost of training, and differences scene by scene.

    openrayzer compare runs/rayzer_a runs/rayzer_b
    openrayzer compare results/a results/b --metric ssim --method context_only --output results/a_and_b
    openrayzer compare runs/* --output results/all

Each folder is a run, or an evaluation that `openrayzer evaluate` has written. The table (Markdown, on stdout) has the
metrics on held-out clips and the seconds and FLOPs of training. The seconds count the steps that led to the weights,
without evaluations, checkpoints, and steps lost to an interruption. The FLOPs are those of the largest clip of the
experiment, forward and backward, without losses.

Every other folder is paired with the first: mean difference over the scenes that both have, bootstrap interval, and a
permutation test. A pair with different views, images, image sizes, crops or definitions of the metric is not compared,
and the output gives the reason. Notes name other differences: placements, scenes, index files.

The folder of --output gets comparison.json, comparison.md and, if matplotlib is installed (pip install
'openrayzer[plots]'), curves.png and differences.png.

Exit code: 0 done; 2 an input is wrong.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import command_parser


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("compare", __doc__)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="runs and evaluations; all are compared with the first",
    )
    parser.add_argument(
        "--metric", default="psnr", metavar="NAME", help="metric of curves and pairs: psnr (default), ssim, ..."
    )
    parser.add_argument(
        "--method", default="", metavar="NAME",
        help="joint, context_only, given_poses, or a baseline such as nearest_context (default: the first placement)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for JSON, Markdown and plots")
    return parser


def run(arguments: Namespace) -> int:
    """Compare the folders, print and write the result."""
    from openrayzer.evaluation.comparison.charts import draw_charts  # slow, so only after the arguments are parsed
    from openrayzer.evaluation.comparison.comparison import Comparison, compare
    from openrayzer.evaluation.comparison.comparison_files import markdown, write_comparison

    def charts(comparison: Comparison, folder: Path) -> list[Path]:
        try:
            return draw_charts(comparison, folder)
        except ModuleNotFoundError as error:
            print(f"note: no plots: {error}; pip install 'openrayzer[plots]'", file=sys.stderr)
            return []

    comparison = compare(arguments.folders, metric=arguments.metric, method=arguments.method)
    print(markdown(comparison))
    if arguments.output is not None:
        for file in write_comparison(comparison, arguments.output, plots=charts):
            print(f"wrote {file}", file=sys.stderr)
    return 0
