"""Measure preparation and loading of chunks beside what is usually done with them.

    python tools/benchmark_data.py
    python tools/benchmark_data.py --data /data/re10k --output speed.json

Both sides work on the same scenes, in turn, in one run: writing every image as PNG against index; reading those with
PIL against the loader; the bare decoding of the same JPEG files; opening a source of 10,000 scenes, and a short
training on it beside one on 100 scenes. What is made on the way goes to a temporary folder and is removed.
"""

import argparse
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path

from openrayzer.cli import add_respelt_option, run_tool


def main() -> int:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, metavar="ROOT", help="measure with the chunks in ROOT/train")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the temporary folder is made")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--scenes", type=int, default=8, help="made up where no data are given (default: 8)")
    parser.add_argument("--frames", type=int, default=100, help="of each of these (default: 100)")
    parser.add_argument("--chunks", type=int, default=4, help="that hold them (default: 4)")
    parser.add_argument("--batches", type=int, default=2, help="loaded per round (default: 2)")
    parser.add_argument("--clips", type=int, default=64, help="of 8 views in a batch (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="whose median counts (default: 3)")
    parser.add_argument("--many", type=int, default=10_000, help="scenes of the large source (default: 10000)")
    add_respelt_option(parser, "--no_training", action="store_true", help="leave out the training on the large source")
    arguments = parser.parse_args()
    from openrayzer.benchmarks.data_speed import Sizes, measure
    from openrayzer.data.chunk_files.scan import chunk_folder, find_chunks
    from openrayzer.data.preparing.folders import write_json

    sizes = Sizes(
        arguments.scenes, arguments.frames, arguments.chunks, arguments.batches, arguments.clips, arguments.rounds,
        arguments.many, not arguments.no_training,
    )  # fmt: skip
    if arguments.data is not None:
        find_chunks(chunk_folder(arguments.data, "train"))  # says what is missing
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        lines = measure(Path(work), sizes, root=arguments.data)
    for line in lines:
        verdict = f"  {line.target}: {'reached' if line.reached else 'MISSED'}" if line.target else ""
        print(f"{line.name:<58} {line.value:>12,.2f} {line.unit:<20}{verdict}".rstrip())
    if arguments.output is not None:
        write_json(arguments.output, [asdict(line) for line in lines])
    return 0


if __name__ == "__main__":
    run_tool(main)
