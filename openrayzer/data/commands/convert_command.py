"""The command ``convert``: any dataset as chunks with smaller images."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_part,
    add_processes,
    add_respelt_option,
    add_source,
    check_split,
    open_source,
    part_of,
    processes_of,
    report_problems,
    source_of,
)
from openrayzer.data.preparing.converting import Conversion
from openrayzer.data.preparing.recoding import Recoding

CONVERT = """Write any dataset as chunks with smaller images.

    openrayzer prepare convert --from dl3dv /data/dl3dv --output /data/dl3dv_256 --short_side 256
    openrayzer prepare convert --from video /data/clips --output /data/clips_256 --short_side 256
    openrayzer prepare convert --from chunks /data/re10k --split test --output /data/small --short_side 128

The chunks are written to OUTPUT/train, or to OUTPUT/NAME with --split NAME, together with index.json, a side index and
manifest.json (counts, checksums, missing frames). For a dataset without splits, --split only names the folder. Larger
images are shrunk by averaging areas, smaller images keep their size. Lens distortion is removed if the dataset knows
it, and the intrinsics follow. Frames keep their numbers: a broken frame becomes a missing frame. The command estimates
time and space from a sample and prints them before it writes anything.

To continue after an interruption, run the same command again. Two conversions to one output are refused. A dataset
without cameras gives chunks without cameras: {"type": "chunks", "root": OUTPUT, "posed": false}. Chunks with images of
the right size need no conversion, only an index. --part K/N converts a part, on one of several machines; merge joins
the parts."""


def add_convert(commands: Commands) -> None:
    """Add the parser of ``convert``."""
    parser = add_command(commands, "convert", CONVERT, convert)
    add_source(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the folder of chunks")
    add_respelt_option(
        parser, "--short_side", type=int, metavar="PIXELS", help="short side of the images (default: stored size)"
    )
    parser.add_argument("--quality", type=int, default=95, metavar="1..100", help="JPEG quality (default: 95)")
    add_respelt_option(
        parser,
        "--chunk_megabytes",
        type=float,
        default=100,
        metavar="MB",
        help="largest size of a chunk (default: 100)",
    )
    add_processes(parser)
    add_part(parser)


def convert(arguments: Namespace) -> int:
    """Convert a dataset, or continue a conversion."""
    source, processes, part = source_of(arguments, split_of_any=True), processes_of(arguments), part_of(arguments)
    named = source.get("split") if arguments.split is None else arguments.split
    check_split(named)
    output = arguments.output / (named or "train")
    conversion = Conversion(
        open_source(arguments, split_of_any=True),
        output,
        source=source,
        recoding=Recoding(arguments.short_side, arguments.quality),
        chunk_bytes=arguments.chunk_megabytes * 1e6,
        processes=processes,
    )
    if part:
        return report_problems(conversion.run_part(part, _say))
    manifest = conversion.run(_say)
    print(conversion_line(output, manifest))
    return report_problems(manifest["problems"])


def conversion_line(output: Path, manifest: dict[str, Any]) -> str:
    """A line about a finished conversion."""
    return (
        f"{output}: {manifest['num_scenes']} scenes, {manifest['num_frames']} frames, "
        f"{manifest['num_missing_frames']} of them missing, {manifest['num_bytes'] / 1e6:.1f} MB in "
        f"{len(manifest['chunks'])} chunks"
    )


def _say(text: str) -> None:
    print(text, flush=True)
