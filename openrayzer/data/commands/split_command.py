"""The command ``split``: lists of training, test and benchmark scenes."""

from argparse import Namespace
from pathlib import Path

from openrayzer.data.commands.source_options import (
    Commands,
    add_command,
    add_respelt_option,
    add_source,
    open_source,
    report_problems,
)
from openrayzer.data.preparing.splitting import (
    BENCHMARK_HELP,
    check_benchmark,
    is_dl3dv,
    read_scene_names,
    split_scenes,
    unmatched,
    write_split,
)
from openrayzer.interfaces import InputError

SPLIT = """Divide the scenes of a dataset into lists: train.txt, test.txt, benchmark.txt.

    openrayzer prepare split --from dl3dv /data/dl3dv --benchmark benchmark.csv --output lists
    openrayzer prepare split --from images /data/clips --test_share 0.1 --output lists

Datasets take the lists as "scenes". The list of a scene depends only on its name and the seed, not on other scenes.
The full release of DL3DV includes the 140 scenes of its benchmark. They must stay out of both other lists, so a file
must name them: a text file, a table, or JSON such as RayZer's evaluation index. openrayzer does not include the names.
A name in the --test file that is not the name of a scene is reported as a problem. No data are moved or copied."""


def add_split(commands: Commands) -> None:
    """Add the parser of ``split``."""
    parser = add_command(commands, "split", SPLIT, split)
    add_source(parser)
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
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice (default: 0)")


def split(arguments: Namespace) -> int:
    """Write lists of scenes."""
    if arguments.benchmark is not None and arguments.keep_benchmark:
        raise InputError("--benchmark and --keep_benchmark exclude each other")
    benchmark = read_scene_names(arguments.benchmark) if arguments.benchmark is not None else None
    test = read_scene_names(arguments.test) if arguments.test is not None else frozenset[str]()
    dataset = open_source(arguments, *(arguments.output / f"{name}.txt" for name in ("train", "test", "benchmark")))
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
    return report_problems(
        [*(f"{name!r} in {arguments.test} is not a scene" for name in unmatched(test, keys)), *dataset.problems]
    )
