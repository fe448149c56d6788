"""Check experiments without training: every problem at once, or what would run.

    python tools/check_experiment.py experiments/rayzer_dl3dv.json
    python tools/check_experiment.py experiments/*.json --ranks 8
    python tools/check_experiment.py experiments/debug.json --set train.steps=5 --data /data/dl3dv

Prints the resolved JSON (every default written out), the parameters of each part of the model, and estimates of memory
and computation. The model is built without memory, so the largest one can be checked on a laptop. Data that is not on
this machine is a note, not an error.

Exit code: 0 if every file is right, 2 if one is not.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import nn

from openrayzer.cli import INPUT_WRONG, add_change_arguments, print_error, run_tool
from openrayzer.composer import Plan, load_experiment
from openrayzer.interfaces import InputError
from openrayzer.planning.flops import count_flops
from openrayzer.settings import Experiment
from registry import RegistryError


@dataclass(frozen=True)
class Memory:
    """Bytes on each rank; activations come on top and depend on the batch."""

    weights: float
    gradients: float
    optimizer: float


def main() -> int:
    """Parse arguments, check one file after the other."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="experiment files")
    add_change_arguments(parser)
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="processes that would train")
    arguments = parser.parse_args()
    code = 0
    for file in arguments.files:
        try:
            check(file, overrides=arguments.set, data_roots=arguments.data, ranks=arguments.ranks)
        except (InputError, RegistryError) as error:
            print_error(error)
            code = INPUT_WRONG
    return code


def check(file: Path, *, overrides: list[str], data_roots: list[Path], ranks: int) -> None:
    """Print what the experiment is and costs.

    Raises:
        InputError: it is wrong; the message lists every problem.
    """
    from openrayzer.training.deepspeed_config import load_deepspeed_config  # slow: only once arguments are right

    planned = load_experiment(file, overrides=overrides, data_roots=data_roots)
    with torch.device("meta"):
        experiment = planned.build()
    settings = load_deepspeed_config(Path(experiment.deepspeed), experiment.train, world_size=ranks)
    lines = [
        str(file),
        json.dumps(planned.resolved, indent=2),
        *parameter_lines(experiment.model),
        *memory_lines(experiment.model, settings, ranks=ranks),
        *flop_lines(experiment),
        *data_notes(planned.plan),
    ]
    print("\n".join(lines), flush=True)


def parameter_lines(model: nn.Module) -> list[str]:
    """Parameters of each direct child, of the model itself, and in total; weights used twice count once."""
    rows = [(name, list(child.parameters())) for name, child in model.named_children()]
    rows.append(("(itself)", list(model.parameters(recurse=False))))
    rows.append(("total", list(model.parameters())))
    lines = ["parameters"]
    for name, weights in rows:
        count = sum(weight.numel() for weight in weights)
        frozen = sum(weight.numel() for weight in weights if not weight.requires_grad)
        if count or name == "total":
            lines.append(f"  {name:<24}{count:>16,}" + (f"  ({frozen:,} frozen)" if frozen else ""))
    return lines


def memory(model: nn.Module, deepspeed: dict[str, Any], *, ranks: int) -> Memory:
    """Bytes on each rank, without activations and communication buffers.

    Weights and gradients take 4 bytes each, 2 under ``bf16``; the optimizer keeps a 4-byte copy of the trainable
    weights and two 4-byte means (Adam). ZeRO divides the optimizer by the ranks from stage 1 on, the gradients from
    stage 2 on, the weights at stage 3.

    Source: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", section 3.
    """
    stage = deepspeed.get("zero_optimization", {}).get("stage", 0)
    width = 2 if deepspeed.get("bf16", {}).get("enabled", False) else 4
    weights = sum(weight.numel() for weight in model.parameters())
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Memory(
        weights=width * weights / (ranks if stage >= 3 else 1),
        gradients=width * trainable / (ranks if stage >= 2 else 1),
        optimizer=12 * trainable / (ranks if stage >= 1 else 1),
    )


def memory_lines(model: nn.Module, deepspeed: dict[str, Any], *, ranks: int) -> list[str]:
    """The estimate of ``memory`` for a person."""
    needed = memory(model, deepspeed, ranks=ranks)
    section = deepspeed.get("zero_optimization", {})
    aside = {name: section[f"offload_{name}"].get("device", "none") for name in ("optimizer", "param")
             if isinstance(section.get(f"offload_{name}"), dict)}  # fmt: skip
    return [
        f"memory on each of {ranks} rank(s), ZeRO stage {section.get('stage', 0)}, without activations and buffers",
        f"  weights                 {_bytes(needed.weights)}" + _offloaded(aside.get("param")),
        f"  gradients               {_bytes(needed.gradients)}",
        f"  optimizer               {_bytes(needed.optimizer)}" + _offloaded(aside.get("optimizer")),
    ]


def flop_lines(experiment: Experiment) -> list[str]:
    """One clip forward, one optimizer step; or why that could not be counted."""
    try:
        flops = count_flops(experiment)
    except Exception as error:  # samplers and models may be foreign code, and this is only an estimate
        return [f"computation: not counted ({type(error).__name__}: {str(error).partition(chr(10))[0]})"]
    return [
        "computation, without losses and recomputed activations",
        f"  one clip forward        {_flops(flops.clip)}  "
        f"({flops.num_context} context views, {flops.num_target} target views)",
        f"  one optimizer step      {_flops(flops.step)}  ({experiment.train.batch_size} clips, 3 x forward)",
    ]


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


def _bytes(count: float) -> str:
    return f"{count / 2**30:>12,.2f} GiB"


def _flops(count: float) -> str:
    power = min(max(len(str(int(count))) - 1, 0) // 3, 5)
    return f"{count / 1000**power:>12,.1f} {' kMGTP'[power].strip()}FLOP"


def _offloaded(device: str | None) -> str:
    return "" if device in (None, "none") else f"  (offloaded to {device})"


if __name__ == "__main__":
    run_tool(main)
