"""Check experiment files without training, and print the cost of a run.

    openrayzer check rayzer_dl3dv
    openrayzer check my_experiments/*.json --ranks 8
    openrayzer check rayzer_demo --set train.steps=5 --data /data/dl3dv

For a file with mistakes, the tool lists all of them. For a correct file, it prints the resolved JSON with every
default, the parameters of each part of the model, and estimates: computation of a step, memory of each rank for every
ZeRO stage with all activations kept or recomputed, size of the checkpoints, and data volume. The model takes no memory
and computes nothing, so a laptop can check the largest experiment. The estimates are for GPUs, or for CPUs with
--device cpu. Missing data is a note, not an error. A warning names settings that let the model learn cameras from the
order of the views.

    openrayzer check rayzer_re10k --ranks 8 --data /data/re10k --open_data
    openrayzer check rayzer_re10k --roofline h200

--roofline prints a model of the time of a step on a GPU, without and with train.compile.

    openrayzer check rayzer_dl3dv --gpus 64 --gpu h200

--gpus plans a run on GPUs that need not be here: time of a step with communication, memory and GPU hours of every ZeRO
stage, micro-batch and choice of recomputation, the fastest first.

Exit code: 0 if every file is correct, otherwise 2.
"""

import json
import os
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import torch

from openrayzer.cli import INPUT_WRONG, add_change_arguments, command_parser, print_error
from openrayzer.composer import Plan, load_experiment
from openrayzer.data.commands.source_options import add_processes, processes_of
from openrayzer.data.preparing.processes import parallel_results
from openrayzer.interfaces import InputError
from openrayzer.planning.communication import Machines
from openrayzer.planning.cost_report import Setting, cost_lines, data_lines, parameter_lines
from openrayzer.planning.gpu_rates import GPUS, Gpu, gpu_named
from openrayzer.planning.roofline_report import roofline_lines
from openrayzer.planning.run_plan import plan_run
from openrayzer.planning.run_plan_report import run_plan_lines
from openrayzer.planning.trace import Device
from openrayzer.planning.view_order import view_order_warnings
from registry import RegistryError


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("check", __doc__)
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="EXPERIMENT",
        help="experiments: files, or names of experiments that openrayzer ships",
    )
    add_change_arguments(parser)
    parser.add_argument(
        "--ranks", type=int, default=1, metavar="N", help="number of processes that would train (default: 1)"
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="device of each process (default: cuda)"
    )
    parser.add_argument(
        "--roofline",
        nargs="?",
        const="h100",
        metavar="GPU",
        help=f"model the time of a step on a GPU: {', '.join(GPUS)} (default: h100)",
    )
    parser.add_argument("--gpus", type=int, metavar="N", help="plan a run on this number of GPUs")
    parser.add_argument(
        "--gpu", default="h100", metavar="GPU", help=f"kind of the GPUs of --gpus: {', '.join(GPUS)} (default: h100)"
    )
    parser.add_argument("--gpus_per_node", type=int, default=8, metavar="N", help="for --gpus (default: 8)")
    parser.add_argument(
        "--network", type=float, default=50.0, metavar="GB/S",
        help="for --gpus: gigabytes a second in one direction between nodes for each GPU (default: 50, a port of 400 "
        "Gbit/s)",
    )  # fmt: skip
    parser.add_argument(
        "--open_data",
        action="store_true",
        help="read clips from the training sources and print the bytes of a step and the number of epochs",
    )
    add_processes(parser)
    return parser


def run(arguments: Namespace) -> int:
    """Check the files, several at a time."""
    code = 0
    work, processes = partial(_text_and_error, arguments=arguments), processes_of(arguments)
    for _, (text, error) in parallel_results(work, arguments.files, processes=processes):
        if text:
            print(text, flush=True)
        else:
            print_error(InputError(error))
            code = INPUT_WRONG
    return code


def _text_and_error(file: Path, *, arguments: Namespace) -> tuple[str, str]:
    """The text about a correct experiment, or the error of a wrong one. The other one is empty."""
    try:
        lines = check(
            file,
            overrides=arguments.set,
            data_roots=arguments.data,
            ranks=arguments.ranks,
            device=arguments.device,
            gpu=gpu_named(arguments.roofline) if arguments.roofline else None,
            machines=_machines(arguments),
            open_data=arguments.open_data,
        )
    except (InputError, RegistryError) as error:
        return "", str(error)
    return "\n".join(lines), ""


def _machines(arguments: Namespace) -> Machines | None:
    """The GPUs of ``--gpus``."""
    if arguments.gpus is None:
        return None
    return Machines(gpu_named(arguments.gpu), arguments.gpus, arguments.gpus_per_node, 1e9 * arguments.network)


def check(
    file: Path,
    *,
    overrides: list[str],
    data_roots: list[Path],
    ranks: int,
    device: Device,
    gpu: Gpu | None,
    machines: Machines | None,
    open_data: bool,
) -> list[str]:
    """The resolved experiment and its costs as lines of text.

    Raises:
        InputError: the experiment is wrong; the message lists every problem.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # avoids a warning of DeepSpeed
    from openrayzer.planning.data_volume import data_volume
    from openrayzer.training.deepspeed_config import (  # slow to import, so after the arguments are checked
        load_deepspeed_config,
        micro_batch_size,
    )

    planned = load_experiment(file, overrides=overrides, data_roots=data_roots)
    with torch.device("meta"):
        experiment = planned.build()
    train = experiment.train
    deepspeed = load_deepspeed_config(Path(experiment.deepspeed), train, world_size=ranks)
    setting = Setting(experiment, deepspeed, ranks, micro_batch_size(train, world_size=ranks), device)
    volume = data_volume(planned.build().data, seed=train.seed) if open_data else None
    return [
        str(file),
        json.dumps(planned.resolved, indent=2),
        *parameter_lines(experiment.model, experiment.train.objective),
        *cost_lines(setting),
        *(roofline_lines(setting, gpu) if gpu else ()),
        *(run_plan_lines(plan_run(setting, machines), machines) if machines else ()),
        *data_lines(setting, volume),
        *(f"warning: {sentence}" for sentence in view_order_warnings(planned.plan, experiment)),
        *(f"note: {problem}" for problem in (volume.problems if volume else ())),
        *data_notes(planned.plan),
    ]


def data_notes(planned: Plan) -> list[str]:
    """Notes about paths of data sources that do not exist here. No source is opened, because some create files."""
    notes = []
    for split in ("train", "test"):
        for source in planned.arguments["data"].arguments[split]:
            dataset: Plan = source.arguments["dataset"]
            for key, value in dataset.arguments.items():
                if isinstance(value, Path) and not value.exists():
                    notes.append(f"note: {dataset.path}.{key}: there is no {value} on this machine")
    return notes
