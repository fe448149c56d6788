"""The command ``merge``: one result from the parts that several machines made."""

from argparse import Namespace
from pathlib import Path

from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.commands.convert_command import conversion_line
from openrayzer.data.commands.index_commands import index_line
from openrayzer.data.commands.overlap_command import merge_overlap
from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_processes,
    processes_of,
    report_problems,
)
from openrayzer.data.commands.verify_command import merge_verified
from openrayzer.data.preparing.conversion_folder import MANIFEST_NAME, WORK
from openrayzer.data.preparing.conversion_plan import merge_conversion
from openrayzer.data.preparing.parts.index_parts import merge_index
from openrayzer.data.preparing.parts.part_files import PartFolder
from openrayzer.interfaces import InputError

MERGE = """Join the parts of convert, index, verify or overlap into one result.

    openrayzer prepare convert --from dl3dv /data/dl3dv --output /data/dl3dv_256 --short_side 256 --part 3/16
    openrayzer prepare merge /data/dl3dv_256
    openrayzer prepare merge report.json

OUTPUT is the --output of the parts, or the ROOT of index without --output. Run each part once, in any order, on any
machine that sees the source and the output under the same names. After an interruption, run the same part again; a
finished part is not computed again. merge names the missing parts. The result has the same content as the result of
one machine. A second merge at the same time is refused."""


def add_merge(commands: Commands) -> None:
    """Add the parser of ``merge``."""
    parser = add_command(commands, "merge", MERGE, merge)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="file or folder that the parts belong to")
    add_processes(parser)


def merge(arguments: Namespace) -> int:
    """Merge all parts of an output."""
    output: Path = arguments.output
    if PartFolder(output).folder.is_dir():
        return report_problems(_merge_file(output))
    folders = [output, *sorted(path for path in output.iterdir() if path.is_dir())] if output.is_dir() else []
    conversions = [folder for folder in folders if (folder / WORK).is_dir() or (folder / MANIFEST_NAME).is_file()]
    indexes = [folder / FRAME_INDEX_NAME for folder in folders]
    problems: list[str] = []
    for folder in conversions:
        manifest = merge_conversion(folder, processes=processes_of(arguments))
        print(conversion_line(folder, manifest))
        problems += manifest["problems"]
    parts = [index for index in indexes if PartFolder(index).folder.is_dir()]
    for index in parts:
        problems += _merge_file(index)
    if not (conversions or parts):
        if output.is_file() or any(index.is_file() for index in indexes):
            print(f"{output} is complete already")
        else:
            raise InputError(f"{output} has no parts; give the --output of the parts, or the ROOT of index")
    return report_problems(problems)


def _merge_file(output: Path) -> list[str]:
    """Merge the parts of one file; returns the problems of the data."""
    with PartFolder(output).merging() as merging:
        if merging.command == "index":
            report = merge_index(merging, output)
            print(index_line(output, report))
            return list(report.problems)
        return {"verify": merge_verified, "overlap": merge_overlap}[merging.command](merging, output)
