"""Make data sets ready.

    python tools/prepare_data.py index /data/re10k
    python tools/prepare_data.py verify --from chunks /data/re10k

Every sub-command says more with --help. Nothing outside the output is written, and no code in a file is ever run.

Exit code: 0 done; 1 something is wrong with the data; 2 something given is wrong; 130 interrupted.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from openrayzer.cli import print_error, run_tool
from openrayzer.interfaces import Dataset, InputError

DATA_WRONG = 1
_SHOWN = 20  # problems that are printed

INDEX = """Write a side index, frame_index.bin, into each folder of chunks.

    python tools/prepare_data.py index /data/re10k               # its folders train and test
    python tools/prepare_data.py index /data/re10k/test /data/dl3dv_chunked/1K
    python tools/prepare_data.py index /readonly/re10k --output /scratch/re10k

It says where each frame lies in its chunk, its size, checksum and camera. No image is decoded. It takes under 1 % of
the chunks' space and moves with them. With it, the dataset "chunks" opens without looking through chunks. When a chunk
changes, the index is named, not used, and should be made again. A side index elsewhere is given to the dataset as
"frame_index"."""


VERIFY = """Decode every frame and look at every camera; one line per scene.

    python tools/prepare_data.py verify --from chunks /data/re10k --split test
    python tools/prepare_data.py verify --from dl3dv /data/dl3dv --output report.json
    python tools/prepare_data.py verify --source '{"type": "images", "root": "/data/clips", "follow_links": true}'

A camera must be finite, a rotation, not mirrored, and have plausible intrinsics: focal lengths of 0.1 to 20 image
sides, principal point in the middle 60 %, square pixels. Frames of several sizes and a camera that does not move are
remarks, no faults. Exit code 1 if anything is wrong."""


def main() -> int:
    """Parse arguments and run one sub-command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_index(commands)
    _add_verify(commands)
    arguments = parser.parse_args()
    from openrayzer.data.chunk_scan import NoUsableSceneError  # slow: only once arguments are right

    try:
        return arguments.run(arguments)
    except NoUsableSceneError as error:
        print_error(error)
        return DATA_WRONG


def _command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, run: object):
    summary = text.partition("\n")[0]
    parser = commands.add_parser(
        name,
        help=summary[0].lower() + summary[1:].rstrip("."),
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, metavar="N", help="how many at most (default: one per processor)")


def _add_index(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "index", INDEX, index)
    parser.add_argument(
        "roots", nargs="+", type=Path, metavar="ROOT", help="a folder of chunks, or one of such folders"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="put the index of ROOT/train into DIR/train")
    parser.add_argument("--unposed", action="store_true", help="the scenes have no cameras, or need none")
    _add_processes(parser)


def index(arguments: argparse.Namespace) -> int:
    """Write the side index of every folder."""
    from openrayzer.data.chunk_scan import NoUsableSceneError
    from openrayzer.preparing.folders import chunk_folders
    from openrayzer.preparing.indexing import index_chunks

    output, roots = arguments.output, arguments.roots
    if output is not None and len(roots) > 1:
        raise InputError(f"--output is for one ROOT, {len(roots)} are given")
    problems: list[str] = []
    for root in roots:
        for folder in chunk_folders(root):
            target = folder if output is None else output / folder.relative_to(root)
            try:
                report = index_chunks(
                    folder, target / "frame_index.bin", processes=_processes(arguments), posed=not arguments.unposed
                )
            except NoUsableSceneError as error:
                problems.append(str(error))
                continue
            share = report.num_bytes / report.chunk_bytes
            print(f"{target / 'frame_index.bin'}: {report.num_scenes} scenes, {report.num_frames} frames "
                  f"in {report.num_chunks} chunks; {report.num_bytes / 1e6:.2f} MB, {share:.2%} of theirs")  # fmt: skip
            problems += report.problems
    return _say(problems)


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "verify", VERIFY, verify)
    _add_source(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the whole report there, as JSON")
    _add_processes(parser)


def verify(arguments: argparse.Namespace) -> int:
    """Look at every frame and camera of a source."""
    from openrayzer.preparing.folders import write_json
    from openrayzer.preparing.verifying import verify as verify_source

    processes = _processes(arguments)
    report = verify_source(_open_source(arguments), processes=processes)
    for scene in report.scenes:
        usable = scene.num_frames - len(scene.broken)
        said = "; ".join([f"{len(scene.cameras)} wrong cameras"] * bool(scene.cameras) + list(scene.remarks))
        print(f"{scene.key}: {usable} of {scene.num_frames} frames usable{'; ' * bool(said)}{said}")
    print(f"{len(report.scenes)} scenes, {report.num_usable} of {report.num_frames} frames usable, "
          f"{len(report.problems)} problem(s)")  # fmt: skip
    if arguments.output is not None:
        write_json(arguments.output, report.as_json())
    return _say(report.problems)


def _add_source(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--from", nargs=2, dest="kind_and_root", metavar=("TYPE", "ROOT"), help="a registered dataset")
    which.add_argument("--source", metavar="JSON", help="the same with all its parameters, as in an experiment")
    parser.add_argument(
        "--split", metavar="NAME", help="which of its folders, for chunks and processed: train, test, 1K"
    )


def _open_source(arguments: argparse.Namespace) -> Dataset:
    """The dataset that was named, opened."""
    from openrayzer.composer import construct, plan
    from openrayzer.interfaces import REGISTRIES

    if arguments.source is not None:
        try:
            spec = json.loads(arguments.source)
        except ValueError as error:
            raise InputError(f"--source is no JSON: {error}; got {arguments.source!r:.80}") from error
    else:
        kind, root = arguments.kind_and_root
        spec = {"type": kind, "root": root}
    if arguments.split is not None and isinstance(spec, dict):
        spec = spec | {"split": arguments.split}
    dataset: Dataset = construct(plan(spec, Dataset, registries=REGISTRIES, path="source"))
    dataset.open()
    return dataset


def _processes(arguments: argparse.Namespace) -> int:
    from openrayzer.preparing.processes import usable_processes

    if arguments.processes is not None and arguments.processes < 1:
        raise InputError(f"--processes must be 1 or more, got {arguments.processes}")
    return arguments.processes or usable_processes()


def _say(problems: Sequence[str]) -> int:
    """Print the first problems; the exit code that follows from them."""
    for problem in problems[:_SHOWN]:
        print(f"problem: {problem}")
    if len(problems) > _SHOWN:
        print(f"and {len(problems) - _SHOWN} more problem(s)")
    return DATA_WRONG if problems else 0


if __name__ == "__main__":
    run_tool(main)
