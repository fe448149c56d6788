"""Prepare data sets for training and evaluation.

    python tools/prepare_data.py index /data/re10k
    python tools/prepare_data.py verify --from chunks /data/re10k
    python tools/prepare_data.py convert --from dl3dv /data/dl3dv --output /data/dl3dv_256 --short_side 256
    python tools/prepare_data.py split --from dl3dv /data/dl3dv --output lists --benchmark benchmark.csv
    python tools/prepare_data.py pairs --from chunks /data/re10k --split test --output index.json
    python tools/prepare_data.py overlap --from chunks /data/re10k --output overlap.json
    python tools/prepare_data.py stats --from chunks /data/re10k --output stats

Every command explains its options with --help. A command writes only its output and never runs code from a file.

Exit code: 0 done; 1 the data have a fault; 2 an option is wrong; 130 interrupted.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrayzer.cli import add_respelt_option, print_error, run_tool
from openrayzer.interfaces import Dataset, InputError

if TYPE_CHECKING:
    from openrayzer.data.preparing.overlap import OverlapMeasure

DATA_WRONG = 1
_SHOWN = 20  # number of problems that are printed

INDEX = """Write a side index, frame_index.bin, into each folder of chunks.

    python tools/prepare_data.py index /data/re10k               # the folders train and test in it
    python tools/prepare_data.py index /data/re10k/test /data/dl3dv_chunked/1K
    python tools/prepare_data.py index /readonly/re10k --output /scratch/re10k

The index holds the position, size, checksum and camera of each frame. No image is decoded. The index takes less than
1 % of the space of the chunks and can be moved with them. With it, the dataset "chunks" opens without searching the
chunks. If a chunk changes, the dataset reports the index and ignores it; run this command again. An index in another
folder is given to the dataset as "frame_index"."""


VERIFY = """Decode every frame and check every camera; print one line per scene.

    python tools/prepare_data.py verify --from chunks /data/re10k --split test
    python tools/prepare_data.py verify --from dl3dv /data/dl3dv --output report.json
    python tools/prepare_data.py verify --source '{"type": "images", "root": "/data/clips", "follow_links": true}'

A camera must be finite, its rotation must be a rotation and not mirrored, and its intrinsics must be plausible: focal
lengths of 0.1 to 20 image sides, principal point in the middle 60 % of the image, square pixels. Different frame sizes
and a camera that does not move are remarks, not faults. The exit code is 1 if there is a fault."""


CONVERT = """Write any dataset as chunks with smaller images.

    python tools/prepare_data.py convert --from dl3dv /data/dl3dv --output /data/dl3dv_256 --short_side 256
    python tools/prepare_data.py convert --from video /data/clips --output /data/clips_256 --short_side 256
    python tools/prepare_data.py convert --from chunks /data/re10k --split test --output /data/small --short_side 128

The chunks are written to OUTPUT/train, or to OUTPUT/NAME with --split NAME, together with index.json, a side index and
manifest.json (counts, checksums, missing frames). For a dataset without splits, --split only names the folder. Larger
images are shrunk by averaging areas, smaller images keep their size. Lens distortion is removed if the dataset knows
it, and the intrinsics follow. Frames keep their numbers: a broken frame becomes a missing frame. The command estimates
time and space from a sample and prints them before it writes anything.

To continue after an interruption, run the same command again. Two conversions to one output are refused. A dataset
without cameras gives chunks without cameras: {"type": "chunks", "root": OUTPUT, "posed": false}. Chunks with images of
the right size need no conversion, only an index."""


SPLIT = """Divide the scenes of a dataset into lists: train.txt, test.txt, benchmark.txt.

    python tools/prepare_data.py split --from dl3dv /data/dl3dv --benchmark benchmark.csv --output lists
    python tools/prepare_data.py split --from images /data/clips --test_share 0.1 --output lists

Datasets take the lists as "scenes". The list of a scene depends only on its name and the seed, not on other scenes.
The full release of DL3DV includes the 140 scenes of its benchmark. They must stay out of both other lists, so a file
must name them: a text file, a table, or JSON such as RayZer's evaluation index. openrayzer does not include the names.
A name in the --test file that is not the name of a scene is reported as a problem. No data are moved or copied."""


PAIRS = """Choose context and target frames of each scene: an evaluation index in pixelSplat's format.

    python tools/prepare_data.py pairs --from chunks /data/re10k --split test --output index.json
    python tools/prepare_data.py pairs --from chunks /data/re10k --split test --overlap 0.3 0.6 --output medium.json
    python tools/prepare_data.py pairs --from images /data/clips --context 4 --gap 8 30 --output clips.json

The index is {scene: {"context": [...], "target": [...]}}, with null for a scene without a fitting choice. If no scene
has a fitting choice, no index is written, and the exit code is 1. The first and the last context frame are a random gap
apart, other context frames are evenly spaced between them, and targets are drawn between them. Unreadable frames are
not chosen. Equal seeds give equal choices.

--overlap also restricts the overlap of the first and the last context frame. The overlap is the share of the points of
one camera that the other camera sees, the smaller value of both directions. The points lie on a grid of 12 x 12 rays,
at 0.5, 1, 2, 4 and 8 times the extent of the cameras of the scene. Occlusion is unknown, so the overlap depends only on
the cameras, not on the images."""


OVERLAP = """Measure the overlap of views in each scene: the table for the view sampler "overlap_curriculum".

    python tools/prepare_data.py overlap --from chunks /data/re10k --output overlap.json
    python tools/prepare_data.py overlap --from images /data/clips --output overlap.json \\
        --tokenizer '{"type": "dinov3", "width": 768, "patch_size": 16}'

The table is {scene: {interval in frames: overlap}}. By default the overlap is the share of keypoints found in both
images (SIFT and epipolar geometry); this needs texture but no weights. With --tokenizer it is the cosine of pretrained
features, the semantic overlap of E-RayZer. A scene takes some seconds. A scene without a table is reported as a
problem, and the view sampler leaves it out."""


STATS = """Write statistics and pictures of a dataset: histograms.png, contact_sheet.png, statistics.json.

    python tools/prepare_data.py stats --from chunks /data/re10k --split test --output stats

Lengths are those of all scenes. Fields of view, baselines, image sizes and pictures come from up to 16 frames of each
sampled scene. The histograms need matplotlib: pip install 'openrayzer[plots]'."""


PROCESS = """Accept the command line that LVSM and RayZer document for chunks of RealEstate10K and DL3DV.

    python tools/prepare_data.py process --base_path /data/re10k --output_dir /data/ready --mode train
    python tools/prepare_data.py process --base_path /data/dl3dv_chunked --output_dir /data/ready --mode 1K \\
        --num_processes 32

Their script decodes BASE_PATH/MODE/*.torch to OUTPUT_DIR/MODE/images/*/*.png, which takes four to six times the space;
a broken image shifts all later frames. openrayzer reads the chunks in place. This command writes
OUTPUT_DIR/MODE/frame_index.bin in seconds, like index, and prints the dataset for an experiment. Keep the chunks. To
make smaller images, use convert. Folders that LVSM's script has written are read as dataset "processed"."""

MODES = ("train", "test", *(f"{thousand}K" for thousand in range(1, 12)))


def main() -> int:
    """Parse arguments and run one command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_index(commands)
    _add_verify(commands)
    _add_convert(commands)
    _add_split(commands)
    _add_pairs(commands)
    _add_overlap(commands)
    _add_stats(commands)
    _add_process(commands)
    arguments = parser.parse_args()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be UTF-8
    from openrayzer.data.chunk_files.scan import NoUsableSceneError  # slow import, only after arguments are parsed

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
    parser.add_argument(
        "--processes", type=int, metavar="N", help="largest number of processes (default: one per CPU core)"
    )


def _add_index(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "index", INDEX, index)
    parser.add_argument(
        "roots", nargs="+", type=Path, metavar="ROOT", help="a folder of chunks, or a folder of such folders"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the index of ROOT/train to DIR/train")
    parser.add_argument("--unposed", action="store_true", help="index the scenes without cameras")
    _add_processes(parser)


def index(arguments: argparse.Namespace) -> int:
    """Write the side index of every folder."""
    from openrayzer.data.chunk_files.scan import NoUsableSceneError
    from openrayzer.data.preparing.folders import chunk_folders
    from openrayzer.data.preparing.indexing import index_chunks

    output, roots = arguments.output, arguments.roots
    if output is not None and len(roots) > 1:
        raise InputError(f"--output works with one ROOT, got {len(roots)}")
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
                  f"in {report.num_chunks} chunks; {report.num_bytes / 1e6:.2f} MB, {share:.2%} of the "
                  "chunks")  # fmt: skip
            problems += report.problems
    return _report(problems)


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "verify", VERIFY, verify)
    _add_source(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the full report to FILE, as JSON")
    _add_processes(parser)


def verify(arguments: argparse.Namespace) -> int:
    """Verify every frame and camera of a dataset."""
    from openrayzer.data.preparing.folders import write_json
    from openrayzer.data.preparing.verifying import verify as verify_source

    processes = _processes(arguments)
    source = _open_source(arguments, *([arguments.output] if arguments.output else []))
    report = verify_source(source, processes=processes)
    for scene in report.scenes:
        usable = scene.num_frames - len(scene.broken)
        notes = [f"{len(scene.cameras)} wrong cameras"] * bool(scene.cameras) + list(scene.remarks)
        print("; ".join([f"{scene.key}: {usable} of {scene.num_frames} frames usable", *notes]))
    print(f"{len(report.scenes)} scenes, {report.num_usable} of {report.num_frames} frames usable, "
          f"{len(report.problems)} problem(s)")  # fmt: skip
    if arguments.output is not None:
        write_json(arguments.output, report.as_json())
    return _report(report.problems)


def _add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "convert", CONVERT, convert)
    _add_source(parser)
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
    _add_processes(parser)


def convert(arguments: argparse.Namespace) -> int:
    """Convert a dataset, or continue a conversion."""
    from openrayzer.data.preparing.converting import Conversion
    from openrayzer.data.preparing.recoding import Recoding

    source, processes = _source(arguments), _processes(arguments)
    named = source.get("split") if arguments.split is None else arguments.split
    _check_split(named)
    output = arguments.output / (named or "train")
    conversion = Conversion(
        _open_source(arguments),
        output,
        source=source,
        recoding=Recoding(arguments.short_side, arguments.quality),
        chunk_bytes=arguments.chunk_megabytes * 1e6,
        processes=processes,
    )
    manifest = conversion.run(lambda text: print(text, flush=True))
    print(f"{output}: {manifest['num_scenes']} scenes, {manifest['num_frames']} frames, "
          f"{manifest['num_missing_frames']} of them missing, {manifest['num_bytes'] / 1e6:.1f} MB in "
          f"{len(manifest['chunks'])} chunks")  # fmt: skip
    return _report(manifest["problems"])


def _add_split(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "split", SPLIT, split)
    _add_source(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the lists")
    parser.add_argument("--benchmark", type=Path, metavar="FILE", help="scenes to keep out of train and test")
    add_respelt_option(
        parser, "--keep_benchmark", action="store_true", help="divide the scenes of DL3DV without such a file"
    )
    parser.add_argument("--test", type=Path, metavar="FILE", help="scenes of the test list")
    add_respelt_option(
        parser,
        "--test_share",
        type=float,
        metavar="SHARE",
        help="share of scenes in the test list (default: 0 with --test, else 0.05)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice (default: 0)")


def split(arguments: argparse.Namespace) -> int:
    """Write lists of scenes."""
    from openrayzer.data.preparing.splitting import (
        BENCHMARK_HELP,
        check_benchmark,
        is_dl3dv,
        read_scene_names,
        split_scenes,
        unmatched,
        write_split,
    )

    if arguments.benchmark is not None and arguments.keep_benchmark:
        raise InputError("--benchmark and --keep_benchmark exclude each other")
    benchmark = read_scene_names(arguments.benchmark) if arguments.benchmark is not None else None
    test = read_scene_names(arguments.test) if arguments.test is not None else frozenset[str]()
    dataset = _open_source(arguments, *(arguments.output / f"{name}.txt" for name in ("train", "test", "benchmark")))
    keys = [dataset.key(scene) for scene in range(len(dataset))]
    if benchmark is None and not arguments.keep_benchmark and is_dl3dv(keys):
        raise InputError(BENCHMARK_HELP)
    remarks = check_benchmark(benchmark, keys)
    share = arguments.test_share if arguments.test_share is not None else 0.0 if test else 0.05
    found = split_scenes(keys, benchmark=benchmark, test=test, test_share=share, seed=arguments.seed)
    write_split(arguments.output, found)
    print(f"{arguments.output}: {len(found.train)} scenes for training, {len(found.test)} for testing, "
          f"{len(found.benchmark)} of the benchmark left out")  # fmt: skip
    for remark in remarks:
        print(remark)
    return _report(
        [*(f"{name!r} in {arguments.test} is not a scene" for name in unmatched(test, keys)), *dataset.problems]
    )


def _add_pairs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "pairs", PAIRS, pairs)
    _add_source(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file for the index")
    parser.add_argument("--context", type=int, default=2, metavar="N", help="number of context frames (default: 2)")
    parser.add_argument("--target", type=int, default=3, metavar="N", help="number of target frames (default: 3)")
    parser.add_argument("--gap", type=int, nargs=2, default=(45, 135), metavar=("SMALLEST", "LARGEST"),
                        help="frames from the first to the last context frame (default: 45 135)")  # fmt: skip
    parser.add_argument("--overlap", type=float, nargs=2, metavar=("SMALLEST", "LARGEST"),
                        help="overlap of the first and the last context frame, from 0 to 1 (default: any)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice (default: 0)")
    _add_processes(parser)


def pairs(arguments: argparse.Namespace) -> int:
    """Write an evaluation index."""
    from openrayzer.data.chunk_files.scan import NoUsableSceneError
    from openrayzer.data.preparing.folders import write_json
    from openrayzer.data.preparing.view_pairs import PairRule, make_pairs

    overlap = None if arguments.overlap is None else (arguments.overlap[0], arguments.overlap[1])
    gap = (arguments.gap[0], arguments.gap[1])
    rule = PairRule(arguments.context, arguments.target, gap, overlap, arguments.seed)
    rule.check()
    processes = _processes(arguments)
    found, problems = make_pairs(_open_source(arguments, arguments.output), rule, processes=processes)
    absent = sum(choice is None for choice in found.values())
    if absent == len(found):
        asked = "" if overlap is None else f" and overlaps of {overlap[0]:g} to {overlap[1]:g}"
        raise NoUsableSceneError(
            f"no scene of {len(found)} has {rule.num_context} context and {rule.num_target} target frames with gaps of "
            f"{gap[0]} to {gap[1]} frames{asked}; {arguments.output} is not written"
        )
    write_json(arguments.output, found)
    print(f"{arguments.output}: {len(found) - absent} scenes with {rule.num_context} context and {rule.num_target} "
          f"target frames, {absent} null")  # fmt: skip
    return _report(problems)


def _add_overlap(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "overlap", OVERLAP, overlap)
    _add_source(parser)
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
    _add_processes(parser)


def overlap(arguments: argparse.Namespace) -> int:
    """Write a table of overlaps."""
    from openrayzer.data.chunk_files.scan import NoUsableSceneError
    from openrayzer.data.preparing.overlap import scene_overlap
    from openrayzer.data.preparing.processes import bar, parallel_results
    from openrayzer.data.sampling.overlap_tables import write_overlap_tables

    if min(arguments.samples, arguments.max_interval) < 1:
        raise InputError("--samples and --max_interval must be 1 or more")
    processes, measure = _processes(arguments), _measure(arguments.tokenizer)
    dataset = _open_source(arguments, arguments.output)
    measured = partial(
        scene_overlap, dataset, measure=measure, samples=arguments.samples, max_interval=arguments.max_interval
    )
    measuring = parallel_results(measured, range(len(dataset)), processes=processes)
    with_bar, scenes = bar(measuring, total=len(dataset), unit="scene", title="overlap"), []
    for _, found in with_bar:
        scenes.append(found)
        with_bar.advance(1)
    tables = {scene.scene: scene.table for scene in scenes if scene.table}
    if not tables:
        raise NoUsableSceneError("; ".join(scene.problem for scene in scenes[:_SHOWN]))
    write_overlap_tables(arguments.output, tables)
    print(f"{arguments.output}: tables of {len(tables)} scenes")
    return _report([*dataset.problems, *(scene.problem for scene in scenes if scene.problem)])


def _measure(tokenizer: str | None) -> "OverlapMeasure[Any]":
    """The measure: keypoints, or the features of a tokenizer."""
    from openrayzer.composer import construct, plan
    from openrayzer.data.preparing.overlap import KeypointOverlap, TokenOverlap
    from openrayzer.interfaces import REGISTRIES, Tokenizer

    if tokenizer is None:
        return KeypointOverlap()
    spec = _json_object("--tokenizer", tokenizer)
    return TokenOverlap(construct(plan(spec, Tokenizer, registries=REGISTRIES, path="tokenizer")))


def _add_stats(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "stats", STATS, stats)
    _add_source(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the three files")
    parser.add_argument(
        "--sample", type=int, default=200, metavar="N", help="number of scenes to sample (default: 200)"
    )
    parser.add_argument("--shown", type=int, default=40, metavar="N", help="scenes on the contact sheet (default: 40)")
    _add_processes(parser)


def stats(arguments: argparse.Namespace) -> int:
    """Write statistics and pictures."""
    from openrayzer.data.preparing.folders import write_json
    from openrayzer.data.preparing.statistics import gather, summary
    from openrayzer.data.preparing.statistics_pictures import draw_contact_sheet, draw_histograms

    if arguments.sample < 1 or arguments.shown < 1:
        raise InputError("--sample and --shown must be 1 or more")
    processes = _processes(arguments)
    table, *pictures = (arguments.output / name for name in ("statistics.json", "contact_sheet.png", "histograms.png"))
    source = _open_source(arguments, table, *pictures)
    scenes, lengths, problems = gather(source, sample=arguments.sample, processes=processes)
    numbers = summary(scenes, lengths)
    for name, value in numbers.items():
        print(f"{name}: {value}")
    write_json(table, numbers | {"scenes": [scene.as_json() for scene in scenes]})
    if scenes:
        draw_contact_sheet(pictures[0], scenes[: arguments.shown])
        draw_histograms(pictures[1], scenes, lengths)
    return _report(problems)


def _add_process(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(commands, "process", PROCESS, process)
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


def process(arguments: argparse.Namespace) -> int:
    """Index the chunks of one mode and print the dataset for an experiment."""
    from openrayzer.data.chunk_files.scan import chunk_folder
    from openrayzer.data.preparing.indexing import index_chunks

    folder = chunk_folder(arguments.base_path, arguments.mode)
    if arguments.chunk_size is not None:
        print(f"--chunk_size {arguments.chunk_size} is ignored: chunks are read in place")
    target = arguments.output_dir / arguments.mode / "frame_index.bin"
    report = index_chunks(folder, target, processes=_processes(arguments))
    dataset = {"type": "chunks", "root": str(arguments.base_path), "split": arguments.mode, "frame_index": str(target)}
    print(f"{target}: {report.num_scenes} scenes, {report.num_frames} frames in {report.num_chunks} chunks")
    print(f"in an experiment: {json.dumps({'dataset': dataset})}")
    return _report(report.problems)


def _add_source(parser: argparse.ArgumentParser) -> None:
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


def _source(arguments: argparse.Namespace) -> dict[str, Any]:
    """The dataset given by the options, as in an experiment."""
    _check_split(arguments.split)
    if arguments.source is None:
        kind, root = arguments.kind_and_root
        spec = {"type": kind, "root": root}
    else:
        spec = _json_object("--source", arguments.source)
    if arguments.split is None or (arguments.run is convert and not _has_split(spec)):
        return spec
    if not _has_split(spec):
        raise InputError(
            f"--split {arguments.split}: the dataset {spec['type']!r} has no splits; give the folder of the scenes as "
            "its root"
        )
    return spec | {"split": arguments.split}


def _has_split(spec: dict[str, Any]) -> bool:
    """Whether a dataset has a parameter "split"; True for an unknown type, since ``plan`` reports it."""
    from openrayzer.interfaces import DATASETS

    parameters = {entry.name: {parameter.name for parameter in entry.parameters} for entry in DATASETS}
    kind = spec.get("type")
    return not isinstance(kind, str) or "split" in parameters.get(kind, {"split"})


def _check_split(name: Any) -> None:
    """Raise InputError unless the name is one folder, so that no file is written elsewhere."""
    if name is not None and (not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0")):
        raise InputError(f"--split must be the name of one folder, such as train or 1K, got {name!r}")


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option} is not JSON: {error}; got {text!r:.80}") from error
    if not isinstance(spec, dict):
        raise InputError(f'{option} must be an object like {{"type": "chunks", ...}}, got {text!r:.80}')
    return spec


def _open_source(arguments: argparse.Namespace, *written: Path) -> Dataset:
    """Open the dataset given by the options, unless a file to write is one of its files."""
    from openrayzer.composer import construct, plan
    from openrayzer.data.chunk_files.scan import NoUsableSceneError
    from openrayzer.data.preparing.folders import require_no_overwriting
    from openrayzer.interfaces import REGISTRIES

    dataset: Dataset = construct(plan(_source(arguments), Dataset, registries=REGISTRIES, path="source"))
    require_no_overwriting(dataset, written)
    try:
        dataset.open()
    except InputError as error:
        if dataset.problems:  # there are scenes, but none is usable
            raise NoUsableSceneError(str(error)) from error
        raise
    return dataset


def _processes(arguments: argparse.Namespace) -> int:
    from openrayzer.data.preparing.processes import usable_processes

    if arguments.processes is not None and arguments.processes < 1:
        raise InputError(f"--processes must be 1 or more, got {arguments.processes}")
    return arguments.processes or usable_processes()


def _report(problems: Sequence[str]) -> int:
    """Print the first problems and return the exit code."""
    for problem in problems[:_SHOWN]:
        print(f"problem: {problem}")
    if len(problems) > _SHOWN:
        print(f"and {len(problems) - _SHOWN} more problem(s)")
    return DATA_WRONG if problems else 0


if __name__ == "__main__":
    run_tool(main)
