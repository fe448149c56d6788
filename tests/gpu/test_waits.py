"""The number of times that the host waits for the GPU in an optimizer step."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_suite import ROOT, SMALL_ROOMS, TINY_RAYDER

from openrayzer.training import loop

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("rooms")]
MOST = 3
"""Most waits of one optimizer step under ZeRO-2 according to docs/gpus.md, for any number of micro-batches."""
STEPS = 6
WATCHED = 5
"""The watched step: earlier steps compile, tune and allocate, and the last one evaluates and saves."""
NAMES = {
    "rayzer_demo": (ROOT / "experiments/rayzer_demo.json", SMALL_ROOMS),
    "rayzer_latent_demo": (ROOT / "experiments/rayzer_latent_demo.json", SMALL_ROOMS),
    "rayder": (TINY_RAYDER, ()),
}
SYNCHRONISING = ((torch.cuda, "synchronize"), (torch.cuda.Event, "synchronize"), (torch.cuda.Stream, "synchronize"))


class Waits:
    """Counts PyTorch's synchronizing operations and the explicit waits, by the file and line of the call."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.places = device, Counter[str]()

    def heard(self, message: object, category: type[Warning], *rest: object) -> None:
        """Replaces ``warnings.showwarning``."""
        if "synchronizing CUDA operation" in str(message):
            self.places[place()] += 1

    def around(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        """A function that counts and then waits."""

        def counted(*arguments: Any, **named: Any) -> Any:
            self.places[place()] += 1
            return wait(*arguments, **named)

        return counted

    def watch(self, step: Callable[[], Any]) -> Any:
        """Run a step and count its waits; returns its result."""
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("always")
            patch.setattr(warnings, "showwarning", self.heard)
            for owner, name in SYNCHRONISING:
                patch.setattr(owner, name, self.around(getattr(owner, name)))
            if self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            try:
                return step()
            finally:
                if self.device.type == "cuda":
                    torch.cuda.set_sync_debug_mode("default")


def place() -> str:
    """File and line of the innermost caller outside PyTorch and this file."""
    for frame in reversed(traceback.extract_stack()):
        name = frame.filename
        if name != __file__ and "/torch/" not in name and not name.endswith("warnings.py"):
            return f"{'/'.join(Path(name).parts[-2:])}:{frame.lineno}"
    return "elsewhere"


def test_a_wait_is_counted_with_its_place(gpu: torch.device, figure: Callable[[str], None]):
    """Checks that the counter works."""
    waits = Waits(gpu)
    value = torch.ones(3, device=gpu)
    waits.watch(lambda: (value.sum().item(), torch.cuda.Event().synchronize() if gpu.type == "cuda" else None))
    figure(", ".join(waits.places))
    assert sum(waits.places.values()) == 2 * (gpu.type == "cuda")


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_waits_at_most_three_times(
    gpu: torch.device,
    train_file: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    accumulation: int,
    figure: Callable[[str], None],
):
    waits, calls, step = Waits(gpu), [0], loop.optimizer_step

    def watched(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == WATCHED:
            return waits.watch(lambda: step(*arguments, **named))
        return step(*arguments, **named)

    monkeypatch.setattr(loop, "optimizer_step", watched)
    file, changes = NAMES[name]
    quiet = ("train.log_every=100", "train.evaluate_every=0", "train.sample_every=0", "train.checkpoint_every=0")
    rule = 'train.bad_steps={"loss_factor": 50, "grace_steps": 1}'
    sizes = (f"train.steps={STEPS}", "train.batch_size=4", f"train.accumulation={accumulation}")
    assert train_file(file, tmp_path, *changes, *quiet, *sizes, rule) == 0
    assert calls[0] == STEPS
    figure(f"{sum(waits.places.values())}: " + ", ".join(f"{n} x {where}" for where, n in waits.places.most_common()))
    assert sum(waits.places.values()) <= MOST
