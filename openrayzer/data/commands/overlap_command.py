"""The command ``overlap``: the table of the view sampler ``overlap_curriculum``."""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_processes,
    add_respelt_option,
    add_source,
    json_object,
    open_source,
    processes_of,
    report_problems,
)
from openrayzer.data.preparing.overlap import KeypointOverlap, OverlapMeasure, TokenOverlap, scene_overlap
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.sampling.overlap_tables import write_overlap_tables
from openrayzer.interfaces import InputError, Tokenizer
from openrayzer.machine.progress import with_progress

_SHOWN = 20  # scenes that the message lists if no scene has a table

OVERLAP = """Measure the overlap of views in each scene: the table for the view sampler "overlap_curriculum".

    openrayzer prepare overlap --from chunks /data/re10k --output overlap.json
    openrayzer prepare overlap --from images /data/clips --output overlap.json \\
        --tokenizer '{"type": "dinov3", "width": 768, "patch_size": 16}'

The table is {scene: {interval in frames: overlap}}. By default the overlap is the share of keypoints found in both
images (SIFT and epipolar geometry); this needs texture but no weights. With --tokenizer it is the cosine of pretrained
features, the semantic overlap of E-RayZer. A scene takes some seconds. A scene without a table is reported as a
problem, and the view sampler leaves it out."""


def add_overlap(commands: Commands) -> None:
    """Add the parser of ``overlap``."""
    parser = add_command(commands, "overlap", OVERLAP, overlap)
    add_source(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file for the table")
    parser.add_argument(
        "--tokenizer", metavar="JSON", help="compare the features of this tokenizer (default: compare keypoints)"
    )
    parser.add_argument(
        "--samples", type=int, default=8, metavar="N", help="samples of views per interval (default: 8)"
    )
    add_respelt_option(
        parser, "--max_interval", type=int, default=64, metavar="N", help="longest interval, in frames (default: 64)"
    )
    add_processes(parser)


def overlap(arguments: Namespace) -> int:
    """Write a table of overlaps."""
    if min(arguments.samples, arguments.max_interval) < 1:
        raise InputError("--samples and --max_interval must be 1 or more")
    processes, measure = processes_of(arguments), _measure(arguments)
    dataset = open_source(arguments, arguments.output)
    measured = partial(
        scene_overlap, dataset, measure=measure, samples=arguments.samples, max_interval=arguments.max_interval
    )
    measuring = parallel_results(measured, range(len(dataset)), processes=processes)
    scenes = [found for _, found in with_progress(measuring, total=len(dataset), unit="scenes", title="overlap")]
    tables = {scene.scene: scene.table for scene in scenes if scene.table}
    if not tables:
        raise NoUsableSceneError("; ".join(scene.problem for scene in scenes[:_SHOWN]))
    write_overlap_tables(arguments.output, tables)
    print(f"{arguments.output}: tables of {len(tables)} scenes")
    return report_problems([*dataset.problems, *(scene.problem for scene in scenes if scene.problem)])


def _measure(arguments: Namespace) -> OverlapMeasure[Any]:
    """The measure: keypoints, or the features of a tokenizer."""
    if arguments.tokenizer is None:
        return KeypointOverlap()
    spec = json_object("--tokenizer", arguments.tokenizer)
    return TokenOverlap(arguments.build(spec, Tokenizer, path="tokenizer"))
