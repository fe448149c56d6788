"""Timing on a GPU with events in its stream. A fake GPU stands for a real one; only its own work advances its clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openrayzer.benchmarks import largest_batch
from openrayzer.benchmarks.timing import Stopwatch, time_in_turn
from openrayzer.benchmarks.training_speed import TrainingSide
from openrayzer.benchmarks.training_worker import Trainer
from openrayzer.interfaces import InputError

GPU = torch.device("cuda")


class FakeGpu:
    """A fake GPU: its time in milliseconds, the number of waits for it, and the number of events read."""

    def __init__(self) -> None:
        self.now, self.waits, self.read = 0.0, 0, 0

    def work(self, milliseconds: float) -> None:
        self.now += milliseconds


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    made = FakeGpu()

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at, self.waits = made.now, made.waits

        def elapsed_time(self, end: "Event") -> float:
            assert made.waits > end.waits, "an event was read before the host waited for the GPU"
            made.read += 1
            return end.at - self.at

    def synchronize(device: torch.device | None = None) -> None:
        made.waits += 1

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    return made


def test_contestants_are_timed_with_events_and_one_wait(gpu: FakeGpu):
    found = time_in_turn(
        {"short": lambda: gpu.work(2), "long": lambda: gpu.work(30)}, rounds=3, device=GPU, warm_up=2, repeat=5
    )
    assert gpu.waits == 1
    assert gpu.read == 6  # warm-up rounds are not measured
    assert found["short"].median == pytest.approx(0.002)
    assert found["long"].minimum == pytest.approx(0.030)


def test_a_cpu_is_timed_with_the_given_clock():
    ticks = iter(range(100))
    found = time_in_turn({"one": lambda: None}, rounds=2, device=torch.device("cpu"), clock=lambda: float(next(ticks)))
    assert found["one"].median == 1.0


class Engine:
    """An engine with calls of 3, 5 and 7 ms on the fake GPU."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu, self.precise = gpu, 0

    @contextmanager
    def precision(self) -> Iterator[None]:
        self.precise += 1
        yield

    def __call__(self, views: Any) -> Any:
        self.gpu.work(3)
        return SimpleNamespace(images=views.images, extra_losses={})

    def backward(self, loss: torch.Tensor) -> None:
        self.gpu.work(5)

    def step(self) -> None:
        self.gpu.work(7)


def test_steps_and_their_parts_are_timed_with_events_and_one_wait(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch):
    views = SimpleNamespace(images=torch.zeros(2, 4, 3, 8, 8), target_images=torch.zeros(2, 2, 3, 8, 8))
    views.to = lambda device: views
    monkeypatch.setattr("openrayzer.benchmarks.training_worker._peak_bytes", lambda device: 123)
    trainer = Trainer.__new__(Trainer)
    trainer.engine = Engine(gpu)
    trainer.process = SimpleNamespace(device=GPU, world_size=1)
    trainer.watch = Stopwatch(GPU)
    trainer.settings = SimpleNamespace(accumulation=2)
    trainer.weighted_loss = lambda images, target, step, extra: {"loss": torch.tensor(0.5, requires_grad=True)}
    trainer.batches = repeat(views)
    trainer.host_seconds, trainer.spans, trainer.weigh = {}, [], False
    trainer.state_bytes = trainer.copied_bytes = 0
    found = trainer.train(3)
    assert gpu.waits == 1
    assert found["steps"] == pytest.approx([0.030] * 3)  # two micro-batches each
    assert found["parts"]["forward"] == pytest.approx(6 * 0.003)
    assert found["parts"]["backward"] == pytest.approx(6 * 0.005)
    assert found["parts"]["optimizer"] == pytest.approx(6 * 0.007)
    assert found["losses"] == [0.5] * 6
    assert found["views"] == 3 * 2 * 8
    assert trainer.engine.precise == 1


def test_the_largest_batch_reserves_the_memory_that_a_real_step_needs_beyond_a_trial(monkeypatch: pytest.MonkeyPatch):
    """A fake GPU of 1000 bytes: 9 bytes for a clip, 100 for the buckets of a real step, and 3 % reserve."""
    taken, peak = dict[str, int](), [0]

    def run(clips: int, extra: int = 0) -> None:
        if taken.get("reserve", 0) + 9 * clips + extra > 1000:
            raise torch.OutOfMemoryError("full")
        peak[0] = max(peak[0], 9 * clips + extra)

    class Predictor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, views: Any) -> Any:
            run(views.count)
            cameras = SimpleNamespace(c2w=self.weight)
            return SimpleNamespace(images=self.weight, cameras=cameras, extra_losses={})

    def reserve(size: int, **_: Any) -> torch.Tensor:
        taken["reserve"] = size
        return torch.zeros(1)

    doubles = {
        "mem_get_info": lambda device: (0, 1000),
        "synchronize": lambda device: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: peak.__setitem__(0, 0),
        "max_memory_allocated": lambda device: peak[0],
    }
    for name, double in doubles.items():
        monkeypatch.setattr(torch.cuda, name, double)
    monkeypatch.setattr(torch, "empty", reserve)
    model = Predictor()

    def clips(count: int) -> Any:
        views = SimpleNamespace(count=count, target_images=torch.zeros(2))
        views.to = lambda device: views
        return views

    found = largest_batch.largest_batch(
        clips,
        model=model,
        losses=lambda images, target, step, extra: {"loss": images.sum()},
        device=GPU,
        autocast=lambda: torch.autocast("cpu", enabled=False),
        train_on_one=lambda: run(1, extra=100),
    )
    assert taken.pop("reserve") == 130
    assert 90 <= found <= 96  # (1000 - 130) / 9, less a sixteenth at most
    run(found, extra=100)  # a real step fits
    assert model.weight.grad is None


def test_the_largest_batch_needs_a_gpu_and_one_side_with_noise(monkeypatch: pytest.MonkeyPatch, tmp_path):
    with pytest.raises(InputError, match="needs a GPU"):
        TrainingSide(name="one", experiment=tmp_path, clips="noise", largest_batch=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    TrainingSide(name="one", experiment=tmp_path, clips="noise", largest_batch=True)
    for wrong in ({"clips": "data"}, {"ranks": 2}, {"engine": "ddp"}, {"source": tmp_path}):
        with pytest.raises(InputError, match="--clips noise"):
            TrainingSide(**{"name": "one", "experiment": tmp_path, "clips": "noise", "largest_batch": True} | wrong)
