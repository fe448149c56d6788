"""Measure a checkpoint: seconds that training waits, until the checkpoint is announced, and to resume from it.

    python -m openrayzer.benchmarks.checkpoint_speed --folder /fast/disk/new --exp experiments/rayzer_dl3dv.json

One process builds the experiment's model and optimizer, without data, and writes checkpoints one after the other.
Nothing else computes meanwhile; in a run, training goes on until the checkpoint is announced. The output is one line
of JSON with median seconds. The folder must not exist. It is removed at the end.
"""

import json
import shutil
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from openrayzer.cli import add_experiment_arguments, run_tool
from openrayzer.composer.experiment import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.settings import Experiment


def main() -> int:
    """Parse arguments, measure, print."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    add_experiment_arguments(parser)
    parser.add_argument("--folder", type=Path, required=True, help="new folder on the disk to measure")
    parser.add_argument("--saves", type=int, default=5, metavar="N", help="number of checkpoints (default: 5)")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        raise InputError(f"--folder {arguments.folder} exists; choose a new one")
    if arguments.saves < 1:
        raise InputError(f"--saves must be 1 or more, got {arguments.saves}")
    try:
        plan = load_experiment(arguments.exp, overrides=arguments.set, data_roots=arguments.data)
        print(json.dumps(measure(plan.build(), folder=arguments.folder, saves=arguments.saves)))
    finally:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    return 0


def measure(experiment: Experiment, *, folder: Path, saves: int) -> dict[str, Any]:
    """Save several checkpoints, then check and load the last one.

    Args:
        experiment: gives the model, the optimizer and DeepSpeed's file.
        folder: folder for the checkpoints; it holds two at a time.
        saves: number of checkpoints.

    Raises:
        InputError: the folder cannot be written.
    """
    from openrayzer.machine.distributed import started
    from openrayzer.training.checkpointing.restoring import load_checkpoint
    from openrayzer.training.checkpointing.saving import CheckpointWriter
    from openrayzer.training.deepspeed_config import load_deepspeed_config
    from openrayzer.training.engine import Engine
    from openrayzer.weights.checkpoints.manifest import checkpoint_name, damage_of

    config = load_deepspeed_config(experiment.deepspeed, experiment.train, world_size=1)
    with started() as process:
        engine = Engine(experiment.model, settings=experiment.train, config=config, process=process)
        _make_optimizer_state(engine)
        writer = CheckpointWriter(engine, folder, experiment={}, keep=1)
        waits, totals = [], []
        for _ in range(saves):
            engine.steps += 1
            begin = time.perf_counter()
            writer.save(state={})
            waits.append(time.perf_counter() - begin)
            writer.finish()
            totals.append(time.perf_counter() - begin)
        last = folder / checkpoint_name(engine.steps)
        size = sum(file.stat().st_size for file in last.iterdir())
        checking, damage = _timed(lambda: damage_of(last))
        if damage:
            raise RuntimeError(f"{last}: {damage}")
        loading, _ = _timed(lambda: load_checkpoint(engine, last))
        return {
            "weights": engine.num_weights,
            "bytes": size,
            "saves": saves,
            "training_waits_seconds": median(waits),
            "until_announced_seconds": median(totals),
            "checking_seconds": checking,
            "loading_seconds": loading,
        }


def _make_optimizer_state(engine: Any) -> None:
    """Make a step with zero gradients, because optimizers have no state before their first step."""
    for _ in range(engine.settings.accumulation):
        engine.backward(sum((0 * weight).sum() for weight in engine.model.parameters() if weight.requires_grad))
        engine.step()


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


if __name__ == "__main__":
    run_tool(main)
