"""One rank of a training benchmark: a script that builds an experiment and trains for the requested number of steps.

``training_speed.py`` also starts this script of other commits, so requests and answers must not change.
"""

import gc
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from openrayzer.benchmarks.largest_batch import largest_batch
from openrayzer.benchmarks.plain_ddp import PlainDDP
from openrayzer.benchmarks.timing import Stopwatch
from openrayzer.composer import load_experiment
from openrayzer.interfaces import InputError
from openrayzer.machine.autocast import autocast_to
from openrayzer.machine.distributed import started
from openrayzer.planning.clip_shapes import clip_shapes, empty_views
from openrayzer.training.deepspeed_config import load_deepspeed_config, micro_batch_size
from openrayzer.training.engine import Engine
from openrayzer.training.run import open_training_clips
from openrayzer.training.weighted_loss import WeightedLoss

COLLECTIVES = (
    "all_reduce", "reduce", "broadcast", "all_gather", "all_gather_into_tensor", "reduce_scatter",
    "reduce_scatter_tensor", "barrier",
)  # fmt: skip


def main() -> int:
    """Read a JSON request from the first argument. Each input line is a number of steps; the answer is JSON."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    out, sys.stdout = sys.stdout, sys.stderr  # so that libraries do not print between the answers
    try:
        serve(request, out)
    except InputError as error:
        print(json.dumps({"error": str(error)}), file=out, flush=True)
        return 2
    return 0


def serve(request: dict[str, Any], out: Any) -> None:
    """Build the experiment, describe it, and train until the input ends."""
    planned = load_experiment(
        Path(request["experiment"]), overrides=request["set"], data_roots=[*map(Path, request["data"])]
    )
    torch.manual_seed(0)
    experiment = planned.build()
    with started() as process:
        trainer = Trainer(experiment, process, request)
        if request["largest_batch"]:
            trainer.enlarge()
        trainer.train(max(1, request["warm_up"] - 1))
        trainer.weigh = True
        trainer.train(1)
        print(json.dumps({"ready": True} | trainer.described()), file=out, flush=True)
        for line in sys.stdin:
            print(json.dumps(trainer.train(int(line))), file=out, flush=True)


class Trainer:
    """Trains an experiment and measures it.

    Args:
        experiment: the experiment.
        process: this rank.
        request: the request; ``engine`` is "deepspeed" or "ddp", ``clips`` is "data" or "noise".

    Raises:
        InputError: the request cannot be fulfilled.
    """

    def __init__(self, experiment: Any, process: Any, request: dict[str, Any]) -> None:
        self.experiment, self.process, self.settings = experiment, process, experiment.train
        self.watch = Stopwatch(process.device)
        self.batch = micro_batch_size(self.settings, world_size=process.world_size)
        config = load_deepspeed_config(experiment.deepspeed, self.settings, world_size=process.world_size)
        self.batches = _noise(experiment, self.batch) if request["clips"] == "noise" else _clips(experiment, process)
        self.weighted_loss = WeightedLoss(experiment.loss).to(process.device)
        self.engine = _engine(request["engine"], experiment, config, process)
        if getattr(self.engine, "compiled", False):
            self.weighted_loss.compile_losses()
        self.host_seconds: dict[str, float] = defaultdict(float)
        self.spans: list[tuple[str, Any, Any]] = []
        self.weigh, self.state_bytes, self.losses = False, 0, list[Any]()
        self.copied_bytes = _copied_bytes(self.engine)
        _time_collectives(self.host_seconds)

    def described(self) -> dict[str, Any]:
        """Weights, device, batch, and the times of estimate, reconstruct and render."""
        model = self.engine.model
        weights = sum(getattr(weight, "ds_numel", weight.numel()) for weight in model.parameters())
        return {"weights": weights, "device": self.process.device.type, "batch": self.batch, "maps": self._maps()}

    def enlarge(self) -> None:
        """Enlarge micro-batches to as many clips of noise as fit into the GPU."""
        self.batches = _noise(self.experiment, 1)
        self.batch = largest_batch(
            lambda batch: next(_noise(self.experiment, batch)),
            model=self.engine.model,
            losses=self.weighted_loss,
            device=self.process.device,
            autocast=self.autocast,
            train_on_one=lambda: self.train(1),
        )
        self.batches = _noise(self.experiment, self.batch)

    def train(self, steps: int) -> dict[str, Any]:
        """Train for some steps. Returns seconds of each step and of each part, the number of views, and memory.

        On a GPU, events in its stream give the times, and nothing waits for the GPU before the last step.
        """
        self.host_seconds.clear()
        self.spans.clear()
        self.losses, views_seen, marks, processor = [], 0, [self.watch.mark()], []
        with getattr(self.engine, "precision", nullcontext)():  # DDP has no such method
            for _ in range(steps):
                computed = time.process_time()
                for number in range(self.settings.accumulation):
                    views_seen += self._micro_batch(last=number + 1 == self.settings.accumulation)
                marks.append(self.watch.mark())
                processor.append(time.process_time() - computed)
        self.watch.synchronise()
        parts = defaultdict(float, self.host_seconds)
        for name, begin, end in self.spans:
            parts[name] += self.watch.seconds(begin, end)
        return {
            "steps": [self.watch.seconds(begin, end) for begin, end in pairwise(marks)],
            "processor": processor,
            "parts": dict(parts),
            "views": views_seen * self.process.world_size,
            "state_bytes": self.state_bytes,
            "copied_bytes": self.copied_bytes,
            "peak_bytes": _peak_bytes(self.process.device),
            "losses": [float(loss) for loss in self.losses],
        }

    def _micro_batch(self, *, last: bool) -> int:
        with self._part("data"):
            views = next(self.batches).to(self.process.device)
        with self._part("forward"):
            prediction = self.engine(views)
        with self._part("loss"):
            extra = prediction.extra_losses
            loss = self.weighted_loss(prediction.images, views.target_images, step=0, extra=extra)["loss"]
        with self._part("backward"):
            self.engine.backward(loss)
        del prediction
        if last and self.weigh:
            self.weigh, self.state_bytes = False, _state_bytes(self.engine.model, views)
        with self._part("optimizer"):
            self.engine.step()
        self.losses.append(loss.detach())
        return views.images.shape[0] * views.images.shape[1]

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        begin = self.watch.mark()
        yield
        self.spans.append((name, begin, self.watch.mark()))

    def autocast(self) -> Any:
        """A context with the experiment's precision, for calls of the model without the engine."""
        precision = torch.bfloat16 if _bf16(self.experiment, self.process) else None
        return autocast_to(self.process.device.type, precision)

    def _maps(self) -> dict[str, float]:
        """Seconds of estimate, reconstruct and render without gradients, the minimum of three."""
        model, views = self.engine.model, next(self.batches).to(self.process.device)
        marks: dict[str, list[tuple[Any, Any]]] = {"estimate": [], "reconstruct": [], "render": []}
        with torch.no_grad(), self.autocast():
            for _ in range(4):
                times = [self.watch.mark()]
                cameras = model.cameras_of(views)
                times.append(self.watch.mark())
                scene = model.reconstruct(views.context_images, cameras.select(views.context), views.context)
                times.append(self.watch.mark())
                model.render(scene, cameras.select(views.target))
                times.append(self.watch.mark())
                for found, span in zip(marks.values(), pairwise(times), strict=True):
                    found.append(span)
        self.watch.synchronise()
        return {name: min(self.watch.seconds(*span) for span in found[1:]) for name, found in marks.items()}


def _engine(kind: str, experiment: Any, config: dict[str, Any], process: Any) -> Any:
    if kind == "deepspeed":
        return Engine(experiment.model, settings=experiment.train, config=config, process=process)
    bf16 = _bf16(experiment, process)
    return PlainDDP(experiment.model, settings=experiment.train, bf16=bf16, process=process)


def _bf16(experiment: Any, process: Any) -> bool:
    config = load_deepspeed_config(experiment.deepspeed, experiment.train, world_size=process.world_size)
    return any(config.get(section, {}).get("enabled") for section in ("torch_autocast", "bf16"))


def _clips(experiment: Any, process: Any) -> Iterator[Any]:
    return open_training_clips(experiment, process, step=0)


def _noise(experiment: Any, batch: int) -> Iterator[Any]:
    """The same clips of noise again and again, with the largest shape of the experiment's view sampler."""
    shape = clip_shapes(experiment.data.view_sampler, steps=experiment.train.steps)[-1]
    views = empty_views(shape, experiment.data.image_size, batch=batch)
    return repeat(replace(views, images=torch.rand(views.images.shape)))


def _time_collectives(seconds: dict[str, float]) -> None:
    """Add up the host's time in calls of torch.distributed. DDP communicates from C++; those calls are not included."""
    for name in COLLECTIVES:
        setattr(dist, name, _timed(getattr(dist, name), seconds))


def _timed(call: Any, seconds: dict[str, float]) -> Any:
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            seconds["communication"] += time.perf_counter() - begin

    return timed


def _state_bytes(model: Any, views: Any) -> int:
    """Bytes of all tensors between backward and optimizer step, without weights and clips.

    These are gradients, communication buffers, the optimizer's state and its copies of the weights.
    """
    gc.collect()
    weights = list(model.parameters())
    known = {weight.untyped_storage().data_ptr() for weight in [*weights, *model.buffers()]}
    known |= {views.images.untyped_storage().data_ptr()}
    alive = [weight.grad for weight in weights if weight.grad is not None]
    alive += [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]
    storages = {}
    for tensor in alive:
        with suppress(RuntimeError):  # torch.compile keeps fake tensors
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(size for pointer, size in storages.items() if pointer not in known)


def _copied_bytes(engine: Any) -> int:
    """Bytes of the optimizer's copies of weights."""
    optimizer = engine.optimizer if hasattr(engine, "optimizer") else engine.deepspeed.optimizer.optimizer
    own = {weight.untyped_storage().data_ptr() for weight in engine.model.parameters()}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return sum(weight.nbytes for weight in weights if weight.untyped_storage().data_ptr() not in own)


def _peak_bytes(device: Any) -> int:
    """Peak memory of the device until now; on a CPU, peak memory of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # an orderly exit could wait for data workers
