"""Compare the preparation and loading of chunks with the usual preprocessing to PNG files.

    openrayzer benchmark-data
    openrayzer benchmark-data --data /data/re10k --output speed.json

Both sides alternate on the same scenes in one run. The comparisons are: writing every image as PNG and writing a side
index; reading the PNG files with PIL, loading clips, and only decoding the JPEG files; opening a dataset of 10,000
scenes; short trainings on this dataset and on 100 scenes. All files go to a temporary folder, which is removed.
"""

import logging
import tempfile
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from openrayzer.cli import command_parser
from openrayzer.data.commands.source_options import add_respelt_option


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("benchmark-data", __doc__)
    parser.add_argument("--data", type=Path, metavar="ROOT", help="use the chunks in ROOT/train")
    parser.add_argument("--work", type=Path, metavar="DIR", help="parent of the temporary folder")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results to FILE, as JSON")
    parser.add_argument("--scenes", type=int, default=8, help="number of synthetic scenes without --data (default: 8)")
    parser.add_argument("--frames", type=int, default=100, help="frames of each synthetic scene (default: 100)")
    parser.add_argument("--chunks", type=int, default=4, help="number of synthetic chunks (default: 4)")
    parser.add_argument("--batches", type=int, default=2, help="batches per round (default: 2)")
    parser.add_argument("--clips", type=int, default=64, help="clips of 8 views per batch (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the median is reported (default: 3)")
    parser.add_argument("--many", type=int, default=10_000, help="scenes of the large dataset (default: 10000)")
    add_respelt_option(parser, "--no_training", action="store_true", help="skip the trainings")
    return parser


def run(arguments: Namespace) -> int:
    """Run the measurements and print a table."""
    from openrayzer.benchmarks.data_speed import Sizes, measure
    from openrayzer.data.chunk_files.scan import chunk_folder, find_chunks
    from openrayzer.data.preparing.folders import write_json

    sizes = Sizes(
        arguments.scenes, arguments.frames, arguments.chunks, arguments.batches, arguments.clips, arguments.rounds,
        arguments.many, not arguments.no_training,
    )  # fmt: skip
    if arguments.data is not None:
        find_chunks(chunk_folder(arguments.data, "train"))  # raises InputError if chunks are missing
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        lines = measure(Path(work), sizes, root=arguments.data)
    for line in lines:
        verdict = f"  {line.target}: {'reached' if line.reached else 'MISSED'}" if line.target else ""
        print(f"{line.name:<58} {line.value:>12,.2f} {line.unit:<20}{verdict}".rstrip())
    if arguments.output is not None:
        write_json(arguments.output, [asdict(line) for line in lines])
    return 0
