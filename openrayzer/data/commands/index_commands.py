"""The commands ``index`` and ``process``: a side index for folders of chunks."""

import json
from argparse import Namespace
from pathlib import Path

from openrayzer.data.chunk_files.scan import NoUsableSceneError, chunk_folder
from openrayzer.data.chunk_files.side_index import FRAME_INDEX_NAME
from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_part,
    add_processes,
    part_of,
    processes_of,
    report_problems,
)
from openrayzer.data.preparing.folders import chunk_folders
from openrayzer.data.preparing.indexing import IndexReport, index_chunks
from openrayzer.data.preparing.parts.index_parts import index_part
from openrayzer.interfaces import InputError
from openrayzer.machine.remote_paths import RemotePath, located

INDEX = """Write a side index, frame_index.bin, into each folder of chunks.

    openrayzer prepare index /data/re10k               # the folders train and test in it
    openrayzer prepare index /data/re10k/test /data/dl3dv_chunked/1K
    openrayzer prepare index /readonly/re10k --output /scratch/re10k
    openrayzer prepare index s3://bucket/re10k --output /scratch/re10k

The index holds the position, size, checksum and camera of each frame. No image is decoded. The index takes less than
1 % of the space of the chunks and can be moved with them. With it, the dataset "chunks" opens without searching the
chunks. If a chunk changes, the dataset reports the index and ignores it; run this command again. An index in another
folder is given to the dataset as "frame_index"."""


PROCESS = """Accept the command line that LVSM and RayZer document for chunks of RealEstate10K and DL3DV.

    openrayzer prepare process --base_path /data/re10k --output_dir /data/ready --mode train
    openrayzer prepare process --base_path /data/dl3dv_chunked --output_dir /data/ready --mode 1K \\
        --num_processes 32

Their script decodes BASE_PATH/MODE/*.torch to OUTPUT_DIR/MODE/images/*/*.png, which takes four to six times the space;
a broken image shifts all later frames. openrayzer reads the chunks in place. This command writes
OUTPUT_DIR/MODE/frame_index.bin in seconds, like index, and prints the dataset for an experiment. Keep the chunks. To
make smaller images, use convert. Folders that LVSM's script has written are read as dataset "processed"."""

MODES = ("train", "test", *(f"{thousand}K" for thousand in range(1, 12)))
"""Folders of published chunks."""


def add_index(commands: Commands) -> None:
    """Add the parser of ``index``."""
    parser = add_command(commands, "index", INDEX, index)
    parser.add_argument(
        "roots", nargs="+", type=Path, metavar="ROOT", help="a folder of chunks, or a folder of such folders"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the index of ROOT/train to DIR/train")
    parser.add_argument("--unposed", action="store_true", help="index the scenes without cameras")
    add_processes(parser)
    add_part(parser)


def index(arguments: Namespace) -> int:
    """Write the side index of every folder."""
    output, roots, part = arguments.output, arguments.roots, part_of(arguments)
    processes, posed = processes_of(arguments), not arguments.unposed
    if output is not None and len(roots) > 1:
        raise InputError(f"--output works with one ROOT, got {len(roots)}")
    problems: list[str] = []
    for root in map(located, roots):
        if output is None and isinstance(root, RemotePath):
            raise InputError(
                f"the index of {root} needs --output with a folder of the local disk; put the index beside the chunks "
                "later, or give it to the dataset as frame_index"
            )
        for folder in chunk_folders(root):
            target = folder if output is None else output / folder.relative_to(root)
            if part:
                result = index_part(folder, target / FRAME_INDEX_NAME, part, processes=processes, posed=posed)
                print(f"{part} of {target / FRAME_INDEX_NAME}: {len(result.content['chunks'])} chunks")
                problems += result.problems
                continue
            try:
                report = index_chunks(folder, target / FRAME_INDEX_NAME, processes=processes, posed=posed)
            except NoUsableSceneError as error:
                problems.append(str(error))
                continue
            print(index_line(target / FRAME_INDEX_NAME, report))
            problems += report.problems
    return report_problems(problems)


def index_line(path: Path, report: IndexReport) -> str:
    """A line about a side index."""
    return (
        f"{path}: {report.num_scenes} scenes, {report.num_frames} frames in {report.num_chunks} chunks; "
        f"{report.num_bytes / 1e6:.2f} MB, {report.num_bytes / report.chunk_bytes:.2%} of the chunks"
    )


def add_process(commands: Commands) -> None:
    """Add the parser of ``process``."""
    parser = add_command(commands, "process", PROCESS, process)
    parser.add_argument(
        "--base_path", type=Path, required=True, metavar="DIR", help="folder with the folder MODE of chunks"
    )
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR", help="folder for MODE/frame_index.bin")
    parser.add_argument(
        "--mode", choices=MODES, required=True, metavar="train|test|1K..11K", help="name of the folder of chunks"
    )
    parser.add_argument(
        "--num_processes",
        type=int,
        dest="processes",
        metavar="N",
        help="largest number of processes (default: one per CPU core)",
    )
    parser.add_argument("--chunk_size", type=int, metavar="N", help="ignored: the chunks do not change")


def process(arguments: Namespace) -> int:
    """Index the chunks of one mode and print the dataset for an experiment."""
    root = located(arguments.base_path)
    folder = chunk_folder(root, arguments.mode)
    if arguments.chunk_size is not None:
        print(f"--chunk_size {arguments.chunk_size} is ignored: chunks are read in place")
    target = arguments.output_dir / arguments.mode / FRAME_INDEX_NAME
    report = index_chunks(folder, target, processes=processes_of(arguments))
    dataset = {"type": "chunks", "root": str(root), "split": arguments.mode, "frame_index": str(target)}
    print(f"{target}: {report.num_scenes} scenes, {report.num_frames} frames in {report.num_chunks} chunks")
    print(f"in an experiment: {json.dumps({'dataset': dataset})}")
    return report_problems(report.problems)
