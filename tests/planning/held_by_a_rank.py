"""A script for one of two ranks: makes a step with the engine, then prints the bytes of all tensors of the process."""

import gc
import json
import sys
from pathlib import Path

import torch

from openrayzer.composer import load_experiment
from openrayzer.machine.distributed import started
from openrayzer.planning.clip_shapes import ClipShape, empty_views
from openrayzer.planning.memory import memory
from openrayzer.training.deepspeed_config import load_deepspeed_config
from openrayzer.training.engine import Engine


def held() -> int:
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def main(experiment_file: Path, config_file: str) -> None:
    experiment = load_experiment(experiment_file).build()
    before = held()
    with started() as process:
        config = load_deepspeed_config(config_file, experiment.train, world_size=process.world_size)
        own = sum(weight.numel() * 4 for weight in experiment.model.parameters())
        planned = memory(experiment.model, config, ranks=process.world_size)
        engine = Engine(experiment.model, settings=experiment.train, config=config, process=process)
        for _ in range(experiment.train.accumulation):
            prediction = engine(empty_views(ClipShape(5, 3, 2), (24, 32)))
            engine.backward(prediction.images.mean() + 0 * prediction.cameras.c2w.mean())
            engine.step()
        del prediction
        engine.deepspeed.zero_grad()
        print(json.dumps({"held": held() - before + own, **vars(planned)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
