"""The command ``stats``: statistics and pictures of a dataset."""

from argparse import Namespace
from pathlib import Path

from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_processes,
    add_source,
    open_source,
    processes_of,
    report_problems,
)
from openrayzer.data.preparing.folders import write_json
from openrayzer.data.preparing.statistics import gather, summary
from openrayzer.data.preparing.statistics_pictures import draw_contact_sheet, draw_histograms
from openrayzer.interfaces import InputError

STATS = """Write statistics and pictures of a dataset: histograms.png, contact_sheet.png, statistics.json.

    openrayzer prepare stats --from chunks /data/re10k --split test --output stats

Lengths include all scenes. Fields of view, baselines, image sizes and pictures come from up to 16 frames of each
sampled scene. The histograms need matplotlib: pip install 'openrayzer[plots]'."""


def add_stats(commands: Commands) -> None:
    """Add the parser of ``stats``."""
    parser = add_command(commands, "stats", STATS, stats)
    add_source(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the three files")
    parser.add_argument(
        "--sample", type=int, default=200, metavar="N", help="number of scenes to sample (default: 200)"
    )
    parser.add_argument("--shown", type=int, default=40, metavar="N", help="scenes on the contact sheet (default: 40)")
    add_processes(parser)


def stats(arguments: Namespace) -> int:
    """Write statistics and pictures."""
    if arguments.sample < 1 or arguments.shown < 1:
        raise InputError("--sample and --shown must be 1 or more")
    processes = processes_of(arguments)
    table, *pictures = (arguments.output / name for name in ("statistics.json", "contact_sheet.png", "histograms.png"))
    source = open_source(arguments, table, *pictures)
    scenes, lengths, problems = gather(source, sample=arguments.sample, processes=processes)
    numbers = summary(scenes, lengths)
    for name, value in numbers.items():
        print(f"{name}: {value}")
    write_json(table, numbers | {"scenes": [scene.as_json() for scene in scenes]})
    if scenes:
        draw_contact_sheet(pictures[0], scenes[: arguments.shown])
        draw_histograms(pictures[1], scenes, lengths)
    return report_problems(problems)
