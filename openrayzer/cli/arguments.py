"""Arguments that several commands share."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any


def command_parser(name: str, text: str | None) -> ArgumentParser:
    """A parser for ``openrayzer NAME``; ``text`` is the help, usually the docstring of the module."""
    return ArgumentParser(
        prog=f"openrayzer {name}", description=text, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )


def add_experiment_arguments(parser: ArgumentParser) -> None:
    """Add ``--exp EXPERIMENT``, ``--set KEY=VALUE ...`` and ``--data ROOT ...``. The last two may be repeated."""
    parser.add_argument(
        "--exp", type=Path, required=True, metavar="EXPERIMENT", help="a file, or the name of a shipped experiment"
    )
    add_change_arguments(parser)


def add_change_arguments(parser: ArgumentParser) -> None:
    """Add ``--set`` and ``--data``, which change an experiment but not its file."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change values, in order: train.steps=100, model.camera_head.type=pi3, data.train[0].weight=2; VALUE is "
        "JSON if it parses as JSON, otherwise a string; a new type replaces the whole component",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="ROOT",
        help="folders of chunks, each with a train and a test split, that replace all sources of the experiment",
    )


def add_input_arguments(parser: ArgumentParser) -> None:
    """Add the options of a run and of the views for its model, see ``input_arguments``."""
    add = parser.add_argument
    add("--run", required=True, metavar="DIR", help="run folder, weight folder, or owner/name on the Hugging Face hub")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="PATH", help="folder of images, or a video")
    source.add_argument(
        "--data", type=Path, metavar="ROOT", help="folder of chunks with a test split, which has the scene --scene"
    )
    add("--scene", metavar="NAME", help="scene of --data (default: the first)")
    add("--checkpoint", default="latest", metavar="NAME", help="latest (default), best, or a name: step_00001000")
    add(
        "--num_views",
        type=int,
        metavar="N",
        help="number of context views, evenly chosen (default: as many as in training)",
    )
    add(
        "--window",
        type=int,
        nargs=2,
        metavar=("FIRST", "LAST"),
        help="choose context views from these frames only, counted from 0",
    )
    add(
        "--image_size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size of the views (default: that of the run); images are resized to cover it and cropped",
    )
    add(
        "--cameras",
        type=Path,
        metavar="PATH",
        help="true cameras of --images, for models that need them: a JSON file from --export_cameras, a "
        "transforms.json, or a folder with a COLMAP model",
    )
    add(
        "--batch",
        type=int,
        default=8,
        metavar="N",
        help="largest number of views rendered together (default: 8; fewer if memory does not suffice)",
    )
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def input_arguments(arguments: Namespace) -> dict[str, Any]:
    """The values of ``add_input_arguments`` but for the device, as arguments of ``InputRequest``."""
    names = ("run", "images", "data", "scene", "checkpoint", "num_views", "cameras", "batch")
    pairs = {name: getattr(arguments, name) for name in ("window", "image_size")}
    given = {name: getattr(arguments, name) for name in names}
    return given | {name: None if pair is None else tuple(pair) for name, pair in pairs.items()}
