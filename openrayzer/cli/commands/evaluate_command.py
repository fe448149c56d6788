"""Evaluate a model on held-out clips.

    openrayzer evaluate --run runs/rayzer_demo --output results/demo
    openrayzer evaluate --run runs/lvsm --data /data/re10k --protocol re10k_2v3 \\
                             --index evaluation_index_re10k.json --output results/lvsm
    openrayzer evaluate --run runs/rayzer_demo --output results/demo --views 1 2 3 --sanity --transfer
    torchrun --nproc_per_node 8 -m openrayzer.cli evaluate --run ...
    deepspeed --module openrayzer.cli evaluate --run ...

The output folder gets metrics.json, per_view.csv, report.html (open it in a browser) and pictures/. An evaluation that
is already there is replaced when the new one is complete. The tables show the model beside baselines: for images the
nearest context view, the mean of the context views, and the model with exchanged target cameras; for poses a constant
pose, a straight line and random poses; for both an untrained geometric model and, with --baselines, COLMAP. The numbers
do not depend on the number of processes. If memory is short and fewer targets are rendered together (--views_at_once),
they change by rounding errors.

A placement finds the camera of each target before it is rendered, and every result names its placement:

  given_poses   all cameras are the true ones; for models that are given poses
  joint         the cameras of all views are estimated together, as in the papers
  context_only  context cameras are estimated from the context views alone; each target is then located by itself

By default, all placements that fit the model are evaluated. docs/evaluation.md explains each number.

Exit code: 0 done; 2 an input is wrong, and the output folder is unchanged; 130 interrupted.
"""

from argparse import SUPPRESS, ArgumentParser, Namespace, _ArgumentGroup
from pathlib import Path
from typing import TYPE_CHECKING

from openrayzer.cli import command_parser

if TYPE_CHECKING:
    from openrayzer.evaluation.request import EvaluationRequest


def run(arguments: Namespace) -> int:
    """Evaluate and print the table."""
    from openrayzer.evaluation.protocols import protocol_table  # slow, so only after the arguments are parsed

    if arguments.list_protocols:
        print(protocol_table())
        return 0
    from openrayzer.evaluation.evaluate import evaluate
    from openrayzer.evaluation.results.printed_table import result_table
    from openrayzer.machine.distributed import check_local_processes, started
    from openrayzer.machine.terminal import logging_to_terminal

    request = request_of(arguments)
    check_local_processes()
    with started() as process, logging_to_terminal(process):
        metrics = evaluate(request, process)
        if process.is_first:
            print(result_table(metrics, arguments.output))
    return 0


def request_of(arguments: Namespace) -> "EvaluationRequest":
    """The request that the arguments describe."""
    from openrayzer.evaluation.request import EvaluationRequest, split_names
    from openrayzer.interfaces import InputError

    if arguments.run is None or arguments.output is None:
        raise InputError("--run DIR and --output DIR are needed")
    protocol, placements = split_names(arguments.protocol, arguments.placement)
    same = (
        "run", "output", "checkpoint", "weights", "dataset", "index", "batch_size", "views_at_once", "max_scenes",
        "precision", "sanity", "transfer", "transfer_oracle", "pictures", "seed",
    )  # fmt: skip
    return EvaluationRequest(
        **{name: getattr(arguments, name) for name in same},
        data=tuple(arguments.data),
        baselines=tuple(name for name in arguments.baselines if name != "none"),
        overrides=tuple(arguments.set),
        plugins=tuple(arguments.plugin),
        metrics=tuple(arguments.metrics),
        metric_weights=metric_weights(arguments),
        protocol=protocol,
        placements=placements,
        image_size=tuple(arguments.image_size) if arguments.image_size else None,
        sweep=tuple(arguments.views),
    )


def metric_weights(arguments: Namespace) -> dict[str, Path]:
    """Metric -> file, from --metric_weights NAME=FILE and the older --lpips_vgg and --lpips_alex."""
    from openrayzer.interfaces import InputError

    found = {name: file for name in ("lpips_vgg", "lpips_alex") if (file := getattr(arguments, name))}
    for text in arguments.metric_weights:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise InputError(f"--metric_weights takes NAME=FILE, got {text!r}")
        found[name] = Path(file)
    return found


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("evaluate", __doc__)
    add = parser.add_argument
    add("--run", metavar="DIR", help="run folder, imported or exported folder, or OWNER/NAME on the Hugging Face hub")
    add("--output", type=Path, metavar="DIR", help="folder to write; an evaluation there is replaced")
    add("--checkpoint", default="latest", metavar="NAME", help="latest (default), best, or one, e.g. step_00001000")
    add(
        "--weights",
        choices=["auto", "ema", "raw"],
        default="auto",
        help="exponential moving average, or the weights of the last step (default: the average if the run has one)",
    )
    _add_data(parser.add_argument_group("clips"))
    _add_views(parser.add_argument_group("views"))
    _add_measures(parser.add_argument_group("measurements"))
    _add_machine(parser.add_argument_group("computation"))
    add("--list_protocols", action="store_true", help="print the protocols and exit")
    add("--local_rank", type=int, help=SUPPRESS)  # given by the deepspeed launcher
    return parser


def _add_data(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--data", nargs="+", action="extend", type=Path, default=[], metavar="ROOT",
        help="folders of clips instead of the run's own test sources",
    )  # fmt: skip
    group.add_argument(
        "--dataset", default="chunks", metavar="NAME",
        help="dataset that reads --data, a name from `openrayzer list dataset` (default: chunks); its test "
        "split, if it has one; for more settings of a source: --set 'data.test=[{\"dataset\": {...}}]'",
    )  # fmt: skip
    group.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change the sections data and evaluation of the run, e.g. data.workers=8",
    )  # fmt: skip
    group.add_argument("--max_scenes", type=int, default=0, metavar="N", help="most scenes to evaluate (default: all)")


def _add_views(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--protocol", nargs="+", action="extend", default=[], metavar="NAME",
        help="a published protocol (see --list_protocols), placements, or both: --protocol re10k_2v3 joint",
    )  # fmt: skip
    group.add_argument(
        "--placement", nargs="+", action="extend", default=[], metavar="NAME",
        help="given_poses, joint, context_only (default: all that fit the model)",
    )  # fmt: skip
    group.add_argument(
        "--index", type=Path, metavar="FILE",
        help="JSON file with the views of each scene (default: the rule of the protocol, or the run's view sampler)",
    )  # fmt: skip
    group.add_argument(
        "--image_size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="in pixels (default: the size of the protocol, or of the run)",
    )
    group.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the view choice (default: the run's) and of the bootstrap (default: 0)",
    )


def _add_measures(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--metrics", nargs="+", action="extend", default=[], metavar="NAME",
        help="image metrics (default: psnr, ssim, LPIPS if its weights are there, and all metrics of plugins)",
    )  # fmt: skip
    group.add_argument(
        "--metric_weights", nargs="+", action="extend", default=[], metavar="NAME=FILE",
        help="pretrained weights of a metric, e.g. lpips_vgg=vgg16-397923af.pth (default: the file of this name in "
        "weights/)",
    )  # fmt: skip
    for option in ("--lpips_vgg", "--lpips_alex"):
        group.add_argument(option, type=Path, help=SUPPRESS)  # older spelling of --metric_weights
    group.add_argument(
        "--plugin", nargs="+", action="extend", default=[], metavar="NAME",
        help="plugins to load besides those of the run, e.g. a .py file with a metric",
    )  # fmt: skip
    group.add_argument(
        "--views", nargs="+", type=int, default=[], metavar="N",
        help="also evaluate with these numbers of context views, e.g. 1 2 4 8",
    )  # fmt: skip
    group.add_argument(
        "--sanity",
        action="store_true",
        help="also run the sanity battery, which changes the clips to distinguish true poses from shortcuts",
    )
    group.add_argument(
        "--transfer",
        action="store_true",
        help="also render each clip with the cameras of another clip, and compare the motions",
    )
    group.add_argument(
        "--baselines", nargs="+", choices=["sfm", "colmap", "none"], default=["sfm"], metavar="NAME",
        help="baselines that look at the images: sfm (default), an untrained geometric model; colmap, the cameras of "
        "COLMAP, which needs pycolmap; none",
    )  # fmt: skip
    group.add_argument(
        "--transfer_oracle", default="", metavar="DIR",
        help="run folder of the model that estimates the motion in the renders (default: the evaluated model)",
    )  # fmt: skip
    group.add_argument(
        "--pictures", type=int, default=24, metavar="N",
        help="scenes with pictures, besides the 4 worst and the 4 best (default: 24; 0: no pictures at all)",
    )  # fmt: skip


def _add_machine(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--precision", choices=["float32", "bfloat16"], default="float32",
        help="precision of the model (default: float32); metrics are always computed in float32",
    )  # fmt: skip
    group.add_argument(
        "--batch_size", type=int, default=1, metavar="N",
        help="scenes at once per process (default: 1); more are faster for small models, with rounding differences",
    )  # fmt: skip
    group.add_argument(
        "--views_at_once", type=int, default=16, metavar="N",
        help="most targets of a scene that are rendered together (default: 16); fewer if memory is short",
    )  # fmt: skip
