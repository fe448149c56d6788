"""Compare runs and evaluations: one table, what each had cost, and differences scene by scene.

    python tools/compare_runs.py runs/rayzer_a runs/rayzer_b
    python tools/compare_runs.py results/a results/b --metric ssim --method context_only --output results/a_and_b
    python tools/compare_runs.py runs/* --output results/all

A folder is a run, or what tools/evaluate.py wrote; both may be mixed. The table (Markdown, on stdout) has the metrics
on held-out clips, seconds and FLOPs of training. Seconds are those of the steps that led to the weights: without
evaluations, checkpoints, and steps that an interruption lost. FLOPs are those of the largest clip that the experiment
makes, forward and backward, without losses.

Every folder is paired with the first: mean difference over the scenes that both have, bootstrap interval, and a
permutation test. Only like is compared with like: where views, images, their size, crop, SSIM window or LPIPS weights
differ, the pair is not compared, and the reason is said. What may differ is said, too: placements, scenes, index files.

--output gets comparison.json, comparison.md and, where matplotlib is installed (pip install 'openrayzer[plots]'),
curves.png and differences.png.

Exit code: 0 done; 2 something given is wrong.
"""

import argparse
import sys
from pathlib import Path

from openrayzer.cli import run_tool


def main() -> int:
    """Parse arguments, compare, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="runs and evaluations; the first is the one to beat"
    )
    parser.add_argument(
        "--metric", default="psnr", metavar="NAME", help="for curves and pairs: psnr (default), ssim, ..."
    )
    parser.add_argument(
        "--method", default="", metavar="NAME",
        help="joint, context_only, given_poses, or a baseline as nearest_context (default: each one's first placement)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for JSON, Markdown and plots")
    arguments = parser.parse_args()
    from openrayzer.evaluation.comparison.charts import draw_charts  # slow: only once arguments are right
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


if __name__ == "__main__":
    run_tool(main)
