"""The command ``overlap``: the table of the view sampler ``overlap_curriculum``."""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from openrayzer.data.chunk_files.scan import NoUsableSceneError
from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_part,
    add_processes,
    add_respelt_option,
    add_source,
    json_object,
    open_source,
    part_of,
    processes_of,
    report_problems,
    source_settings,
)
from openrayzer.data.preparing.overlap import (
    KeypointOverlap,
    OverlapMeasure,
    SceneOverlap,
    TokenOverlap,
    scene_overlap,
)
from openrayzer.data.preparing.parts.part_files import Merging, PartFolder, PartResult
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.data.preparing.whole_scenes import contents
from openrayzer.data.sampling.overlap_tables import write_overlap_tables
from openrayzer.interfaces import InputError, Tokenizer
from openrayzer.machine.progress import with_progress

_SHOWN = 20  # scenes that the message lists if no scene has a table
_SEED = 67280421310721
"""Seed of the random weights of a tokenizer, the same on every machine. It is the one of a new process of PyTorch."""

OVERLAP = """Measure the overlap of views in each scene: the table for the view sampler "overlap_curriculum".

    openrayzer prepare overlap --from chunks /data/re10k --output overlap.json
    openrayzer prepare overlap --from images /data/clips --output overlap.json \\
        --tokenizer '{"type": "dinov3", "width": 768, "patch_size": 16}'

The table is {scene: {interval in frames: overlap}}. By default the overlap is the share of keypoints found in both
images (SIFT and epipolar geometry); this needs texture but no weights. With --tokenizer it is the cosine of pretrained
features, the semantic overlap of E-RayZer. A scene takes some seconds. A scene without a table is reported as a
problem, and the view sampler leaves it out. --part K/N measures a part of the scenes, on one of several machines; merge
joins the parts."""


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
    add_part(parser)


def overlap(arguments: Namespace) -> int:
    """Write a table of overlaps."""
    if min(arguments.samples, arguments.max_interval) < 1:
        raise InputError("--samples and --max_interval must be 1 or more")
    processes, part, measure = processes_of(arguments), part_of(arguments), _measure(arguments)
    dataset = open_source(arguments, arguments.output)

    def measure_scenes(numbers: range) -> list[SceneOverlap]:
        measured = partial(
            scene_overlap, dataset, measure=measure, samples=arguments.samples, max_interval=arguments.max_interval
        )
        measuring = parallel_results(measured, numbers, processes=processes)
        return [found for _, found in with_progress(measuring, total=len(numbers), unit="scenes", title="overlap")]

    if part is None:
        scenes = measure_scenes(range(len(dataset)))
        return report_problems([*dataset.problems, *_write_tables(scenes, arguments.output)])
    numbers = part.numbers(len(dataset))
    options = {name: getattr(arguments, name) for name in ("tokenizer", "samples", "max_interval")}
    result = PartFolder(arguments.output).run(
        part, lambda: _part_result(measure_scenes(numbers)), command="overlap",
        settings=source_settings(arguments, dataset) | options, contents=contents(dataset, numbers),
    )  # fmt: skip
    print(f"{part} of {arguments.output}: {len(result.content['scenes'])} scenes")
    return report_problems(result.problems)


def merge_overlap(merging: Merging, output: Path) -> list[str]:
    """Write the table from all parts; returns the problems of the scenes."""
    scenes = [
        SceneOverlap(name, {int(interval): value for interval, value in table.items()}, problem)
        for result in merging.results()
        for name, table, problem in result.content["scenes"]
    ]
    return _write_tables(scenes, output)


def _write_tables(scenes: Sequence[SceneOverlap], output: Path) -> list[str]:
    """Write the tables; returns the problems of scenes without one."""
    tables = {scene.scene: scene.table for scene in scenes if scene.table}
    if not tables:
        raise NoUsableSceneError("; ".join(scene.problem for scene in scenes[:_SHOWN]))
    write_overlap_tables(output, tables)
    print(f"{output}: tables of {len(tables)} scenes")
    return [scene.problem for scene in scenes if scene.problem]


def _part_result(scenes: Sequence[SceneOverlap]) -> PartResult:
    values = [[scene.scene, scene.table, scene.problem] for scene in scenes]
    return PartResult({"scenes": values}, [scene.problem for scene in scenes if scene.problem])


def _measure(arguments: Namespace) -> OverlapMeasure[Any]:
    """The measure: keypoints, or the features of a tokenizer."""
    if arguments.tokenizer is None:
        return KeypointOverlap()
    spec = json_object("--tokenizer", arguments.tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return TokenOverlap(arguments.build(spec, Tokenizer, path="tokenizer"))
