"""Check experiments without training: every problem at once, or what would run.

    python tools/check_experiment.py experiments/rayzer_dl3dv.json
    python tools/check_experiment.py experiments/*.json --ranks 8
    python tools/check_experiment.py experiments/rayzer_demo.json --set train.steps=5 --data /data/dl3dv

Prints the resolved JSON (every default written out), the parameters of each part of the model, and estimates:
computation of a step, memory of each rank for every ZeRO stage with all activations kept or recomputed, size of the
checkpoints, data volume. The model is built without memory and one micro-batch is followed through it without being
computed, so the largest one can be checked on a laptop; the numbers are those of a GPU unless --device cpu is given.
Data that is not on this machine is a note, not an error.

    python tools/check_experiment.py experiments/rayzer_re10k.json --ranks 8 --data /data/re10k --open_data
    python tools/check_experiment.py experiments/rayzer_re10k.json --roofline h200

The second prints a model of where the time of a step on such a GPU goes, as written and with train.compile.

Exit code: 0 if every file is right, 2 if one is not.
"""

import argparse
import json
from pathlib import Path

import torch
from jsonargparse import ArgumentParser

from openrayzer.cli import INPUT_WRONG, add_change_arguments, print_error, run_tool
from openrayzer.composer import Plan, load_experiment
from openrayzer.interfaces import InputError
from openrayzer.planning.cost_report import Setting, cost_lines, data_lines, parameter_lines
from openrayzer.planning.gpu_rates import GPUS, Gpu, gpu_named
from openrayzer.planning.roofline_report import roofline_lines
from openrayzer.planning.trace import Device
from registry import RegistryError


def main() -> int:
    """Parse arguments, check one file after the other."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="experiment files")
    add_change_arguments(parser)
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="processes that would train")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="what each process would run on")
    parser.add_argument(
        "--roofline", nargs="?", const="h100", metavar="GPU", help=f"model a step on one of {', '.join(GPUS)}"
    )
    parser.add_argument(
        "--open_data", action="store_true", help="open the training sources and read some clips: bytes a step, epochs"
    )
    arguments = parser.parse_args()
    code = 0
    for file in arguments.files:
        try:
            check(
                file,
                overrides=arguments.set,
                data_roots=arguments.data,
                ranks=arguments.ranks,
                device=arguments.device,
                gpu=gpu_named(arguments.roofline) if arguments.roofline else None,
                open_data=arguments.open_data,
            )
        except (InputError, RegistryError) as error:
            print_error(error)
            code = INPUT_WRONG
    return code


def check(
    file: Path,
    *,
    overrides: list[str],
    data_roots: list[Path],
    ranks: int,
    device: Device,
    gpu: Gpu | None,
    open_data: bool,
) -> None:
    """Print what the experiment is and costs.

    Raises:
        InputError: it is wrong; the message lists every problem.
    """
    from openrayzer.planning.data_volume import data_volume
    from openrayzer.training.deepspeed_config import (  # slow: only once arguments are right
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
    lines = [
        str(file),
        json.dumps(planned.resolved, indent=2),
        *parameter_lines(experiment.model),
        *cost_lines(setting),
        *(roofline_lines(setting, gpu) if gpu else ()),
        *data_lines(setting, volume),
        *(f"note: {problem}" for problem in (volume.problems if volume else ())),
        *data_notes(planned.plan),
    ]
    print("\n".join(lines), flush=True)


def data_notes(planned: Plan) -> list[str]:
    """Paths of data sources that are not on this machine. Nothing is opened: a source may create its clips then."""
    notes = []
    for split in ("train", "test"):
        for source in planned.arguments["data"].arguments[split]:
            dataset: Plan = source.arguments["dataset"]
            for key, value in dataset.arguments.items():
                if isinstance(value, Path) and not value.exists():
                    notes.append(f"note: {dataset.path}.{key}: there is no {value} on this machine")
    return notes


if __name__ == "__main__":
    run_tool(main)
