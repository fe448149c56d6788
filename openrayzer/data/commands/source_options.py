"""Options that the commands of ``openrayzer prepare`` share, and the dataset that they open.

The tool puts a function ``build`` into the parsed options, which makes a component from a JSON object: no file of the
data knows the composer.
"""

import hashlib
import json
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.data.preparing.folders import require_no_overwriting
from openrayzer.data.preparing.parts.division import Part
from openrayzer.data.preparing.processes import usable_processes
from openrayzer.interfaces import DATASETS, Dataset, InputError

Commands = _SubParsersAction
"""The result of ``ArgumentParser.add_subparsers``."""

DATA_WRONG = 1
"""Exit code if the data have a fault."""

_SHOWN = 20  # number of problems that are printed


def add_command(commands: Commands, name: str, text: str, run: Callable[[Namespace], int]) -> ArgumentParser:
    """Add the parser of a command. The first line of ``text`` is its summary; ``run`` returns the exit code."""
    summary = text.partition("\n")[0]
    parser = commands.add_parser(
        name,
        help=summary[0].lower() + summary[1:].rstrip("."),
        description=text,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_respelt_option(parser: ArgumentParser, option: str, **settings: Any) -> None:
    """Add an option such as ``--short_side``; the help hides its old spelling, ``--short-side``, which works."""
    name = option.removeprefix("--")
    parser.add_argument(option, **settings)
    old = {"dest": name, "default": SUPPRESS, "help": SUPPRESS}
    parser.add_argument(f"--{name.replace('_', '-')}", **settings | old)


def add_processes(parser: ArgumentParser) -> None:
    """Add ``--processes``, see ``processes_of``."""
    parser.add_argument(
        "--processes", type=int, metavar="N", help="largest number of processes (default: one per CPU core)"
    )


def processes_of(arguments: Namespace) -> int:
    """The number of processes to use.

    Raises:
        InputError: the option is below 1.
    """
    if arguments.processes is not None and arguments.processes < 1:
        raise InputError(f"--processes must be 1 or more, got {arguments.processes}")
    return arguments.processes or usable_processes()


def add_part(parser: ArgumentParser) -> None:
    """Add ``--part``, see ``part_of``."""
    parser.add_argument(
        "--part",
        metavar="K/N",
        help="do only part K of N, as one of several machines; the command merge joins all parts",
    )


def part_of(arguments: Namespace) -> Part | None:
    """The part to do; None for everything.

    Raises:
        InputError: the option is malformed or out of range.
    """
    return None if arguments.part is None else Part.parse(arguments.part)


def add_source(parser: ArgumentParser) -> None:
    """Add the options that name a dataset, see ``source_of``."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--from", nargs=2, dest="kind_and_root", metavar=("TYPE", "ROOT"), help="type and root of a dataset"
    )
    which.add_argument("--source", metavar="JSON", help="a dataset with any parameters, as in an experiment")
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="folder of the dataset, for datasets with this parameter: train, test, 1K; convert also names the folder "
        "that it writes so, for any dataset",
    )


def source_of(arguments: Namespace, *, split_of_any: bool = False) -> dict[str, Any]:
    """The dataset given by the options, as in an experiment.

    Args:
        arguments: the parsed options.
        split_of_any: accept --split for a dataset without splits, and ignore it there.

    Raises:
        InputError: an option is wrong, or the dataset has no splits.
    """
    check_split(arguments.split)
    if arguments.source is None:
        kind, root = arguments.kind_and_root
        spec = {"type": kind, "root": root}
    else:
        spec = json_object("--source", arguments.source)
    if arguments.split is None or (split_of_any and not _has_split(spec)):
        return spec
    if not _has_split(spec):
        raise InputError(
            f"--split {arguments.split}: the dataset {spec['type']!r} has no splits; give the folder of the scenes as "
            "its root"
        )
    return spec | {"split": arguments.split}


def open_source(arguments: Namespace, *written: Path, split_of_any: bool = False) -> Dataset:
    """Open the dataset given by the options.

    Args:
        arguments: the parsed options.
        written: files that the command is going to write.
        split_of_any: see ``source_of``.

    Raises:
        InputError: an option is wrong, or a file to write exists inside the dataset.
        NoUsableSceneError: the dataset has no usable scene.
    """
    dataset: Dataset = arguments.build(source_of(arguments, split_of_any=split_of_any), Dataset, path="source")
    require_no_overwriting(dataset, written)
    try:
        dataset.open()
    except InputError as error:
        if dataset.problems:  # there are scenes, but none is usable
            raise NoUsableSceneError(str(error)) from error
        raise
    return dataset


def source_settings(arguments: Namespace, dataset: Dataset) -> dict[str, Any]:
    """The source and the names of its scenes, which all parts of a preparation share."""
    names = json.dumps([dataset.key(scene) for scene in range(len(dataset))]).encode()
    return {"source": source_of(arguments), "scenes": hashlib.sha256(names).hexdigest()}


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object given as the value of an option.

    Raises:
        InputError: the text is not JSON or not an object.
    """
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option} is not JSON: {error}; got {text!r:.80}") from error
    if not isinstance(spec, dict):
        raise InputError(f'{option} must be an object like {{"type": "chunks", ...}}, got {text!r:.80}')
    return spec


def check_split(name: Any) -> None:
    """Raise InputError unless the name is one folder, so that no file is written elsewhere."""
    if name is not None and (not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0")):
        raise InputError(f"--split must be the name of one folder, such as train or 1K, got {name!r}")


def report_problems(problems: Sequence[str]) -> int:
    """Print the first problems and return the exit code."""
    for problem in problems[:_SHOWN]:
        print(f"problem: {problem}")
    if len(problems) > _SHOWN:
        print(f"and {len(problems) - _SHOWN} more problem(s)")
    return DATA_WRONG if problems else 0


def _has_split(spec: dict[str, Any]) -> bool:
    """Whether a dataset has a parameter "split"; True for an unknown type, since ``plan`` reports it."""
    parameters = {entry.name: {parameter.name for parameter in entry.parameters} for entry in DATASETS}
    kind = spec.get("type")
    return not isinstance(kind, str) or "split" in parameters.get(kind, {"split"})
