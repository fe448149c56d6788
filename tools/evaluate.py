"""Evaluate a model on held-out clips: every number, where it comes from, and pictures.

    python tools/evaluate.py --run runs/rayzer_demo --output results/demo
    python tools/evaluate.py --run runs/lvsm --data /data/re10k --protocol re10k_2v3 \\
                             --index evaluation_index_re10k.json --output results/lvsm
    python tools/evaluate.py --run runs/rayzer_demo --output results/demo --views 1 2 3 --sanity --transfer
    torchrun --nproc_per_node 8 -- tools/evaluate.py --run ...       deepspeed tools/evaluate.py --run ...

The output folder gets metrics.json, per_view.csv, report.html (open it in a browser) and pictures/. An evaluation that
is already there is replaced, once the new one is whole. Beside the model stand what costs nothing: the nearest context
view, the mean of the context views, the model with its target cameras exchanged; for poses a constant pose, a straight
line and random poses. The numbers are the same on any number of processes; where memory ends and
fewer targets are rendered together (--views_at_once), up to rounding.

A target must be placed before it can be rendered, and how is part of every result:

  given_poses   all cameras are the true ones; for models that are given poses
  joint         all views go through the estimator together, as in the papers: target pixels reach the context cameras
  context_only  context cameras come from the contexts alone; each target is then located by itself

By default every placement that the model has is evaluated. docs/evaluation.md says what each number means.

Exit code: 0 done; 2 something given is wrong, and then the output folder is as it was; 130 interrupted.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from openrayzer.cli import run_tool

if TYPE_CHECKING:
    from openrayzer.evaluation.request import EvaluationRequest


def main() -> int:
    """Parse arguments, evaluate, print the table."""
    arguments = parser().parse_args()
    from openrayzer.evaluation.protocols import protocol_table  # slow: only once arguments are right

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
            print(result_table(metrics, request.output))
    return 0


def request_of(arguments: argparse.Namespace) -> "EvaluationRequest":
    """The arguments, checked."""
    from openrayzer.evaluation.request import EvaluationRequest, split_names
    from openrayzer.interfaces import InputError

    if arguments.run is None or arguments.output is None:
        raise InputError("--run DIR and --output DIR are needed")
    protocol, placements = split_names(arguments.protocol, arguments.placement)
    same = (
        "run", "output", "checkpoint", "weights", "dataset", "index", "batch_size", "views_at_once", "max_scenes",
        "precision", "lpips_vgg", "lpips_alex", "sanity", "transfer", "transfer_oracle", "pictures", "seed",
    )  # fmt: skip
    return EvaluationRequest(
        **{name: getattr(arguments, name) for name in same},
        data=tuple(arguments.data),
        overrides=tuple(arguments.set),
        protocol=protocol,
        placements=placements,
        image_size=tuple(arguments.image_size) if arguments.image_size else None,
        sweep=tuple(arguments.views),
    )


def parser() -> argparse.ArgumentParser:
    """What the tool takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--run", metavar="DIR", help="run folder, imported or exported folder, or OWNER/NAME on the Hugging Face hub")
    add("--output", type=Path, metavar="DIR", help="folder to write; an evaluation there is replaced")
    add("--checkpoint", default="latest", metavar="NAME", help="latest (default), best, or one, e.g. step_00001000")
    add(
        "--weights",
        choices=["auto", "ema", "raw"],
        default="auto",
        help="averaged over the steps, or of the last step (default: averaged where the run has an average)",
    )
    _add_data(parser.add_argument_group("which clips"))
    _add_views(parser.add_argument_group("which views"))
    _add_measures(parser.add_argument_group("what is measured"))
    _add_machine(parser.add_argument_group("how it is computed"))
    add("--list_protocols", action="store_true", help="print the protocols and leave")
    add("--local_rank", type=int, help=argparse.SUPPRESS)  # given by the deepspeed launcher
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data", nargs="+", action="extend", type=Path, default=[], metavar="ROOT",
        help="folders of clips instead of the run's own test sources",
    )  # fmt: skip
    group.add_argument(
        "--dataset", default="chunks", metavar="NAME",
        help="what --data holds: chunks (default; its test split), processed, dl3dv, colmap, opencv_cameras, images, "
        "video; more settings of a source by --set 'data.test=[{\"dataset\": {...}}]'",
    )  # fmt: skip
    group.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change the run's sections data and evaluation, e.g. data.workers=8 evaluation.view_sampler.num_context=2",
    )  # fmt: skip
    group.add_argument("--max_scenes", type=int, default=0, metavar="N", help="at most so many scenes (default: all)")


def _add_views(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--protocol", nargs="+", action="extend", default=[], metavar="NAME",
        help="a published protocol (see --list_protocols), a placement, or both: --protocol re10k_2v3 joint",
    )  # fmt: skip
    group.add_argument(
        "--placement", nargs="+", action="extend", default=[], metavar="NAME",
        help="given_poses, joint, context_only (default: all that the model has)",
    )  # fmt: skip
    group.add_argument(
        "--index", type=Path, metavar="FILE",
        help="JSON that lists the views of each scene (default: the protocol's rule, or the run's own view sampler)",
    )  # fmt: skip
    group.add_argument(
        "--image_size", nargs=2, type=int, metavar=("H", "W"), help="in pixels (default: the protocol's or the run's)"
    )
    group.add_argument(
        "--seed", type=int, metavar="N", help="of the view choice (default: the run's) and of the bootstrap (0)"
    )


def _add_measures(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--lpips_vgg", type=Path, metavar="FILE",
        help="vgg16-397923af.pth of torchvision (default: weights/vgg16-397923af.pth, or no LPIPS)",
    )  # fmt: skip
    group.add_argument("--lpips_alex", type=Path, metavar="FILE", help="likewise alexnet-owt-7be5be79.pth")
    group.add_argument(
        "--views", nargs="+", type=int, default=[], metavar="N",
        help="also evaluate with so many of the context views, e.g. 1 2 4 8",
    )  # fmt: skip
    group.add_argument(
        "--sanity",
        action="store_true",
        help="also tell real poses from shortcuts: shuffled, dropped, repeated views, ...",
    )
    group.add_argument(
        "--transfer", action="store_true", help="also drive each clip with the cameras of another, and score that"
    )
    group.add_argument(
        "--transfer_oracle", default="", metavar="DIR",
        help="run folder of another model that judges the transfer from images (default: the evaluated one)",
    )  # fmt: skip
    group.add_argument(
        "--pictures", type=int, default=24, metavar="N",
        help="scenes that are drawn, besides the 4 worst and the 4 best (default: 24; 0 draws none)",
    )  # fmt: skip


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--precision", choices=["float32", "bfloat16"], default="float32",
        help="of the model (default: float32); metrics are always computed in float32",
    )  # fmt: skip
    group.add_argument(
        "--batch_size", type=int, default=1, metavar="N",
        help="scenes at once per process (default: 1); more is faster for small models and the same up to rounding",
    )  # fmt: skip
    group.add_argument(
        "--views_at_once", type=int, default=16, metavar="N",
        help="most targets of a scene rendered together (default: 16); where memory does not suffice, fewer are, which "
        "changes nothing but rounding",
    )  # fmt: skip


if __name__ == "__main__":
    run_tool(main)
