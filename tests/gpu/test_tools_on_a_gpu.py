"""Evaluation, videos, replayed steps and batches that fit, on a GPU; where possible compared with the CPU."""

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from gpu_suite import ROOT, TINY, distance

from openrayzer.evaluation.evaluate import evaluate
from openrayzer.evaluation.request import EvaluationRequest
from openrayzer.machine import FittingBatches
from openrayzer.machine.distributed import Process
from openrayzer.training.faults.replay import replay
from openrayzer.video.making import VideoRequest, make_video
from openrayzer.video.named_paths import PathChoice

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("rooms")]
CPU = torch.device("cpu")
QUIET = ("train.log_every=1", "train.sample_every=0", "train.evaluate_every=0", "data.workers=0",
         "train.checkpoint_every=0")  # fmt: skip
TrainFile = Callable[..., int]


@pytest.fixture
def run(train_file: TrainFile, tmp_path: Path) -> Path:
    """A run of a few steps with different cameras."""
    assert train_file(TINY, tmp_path / "run", *QUIET, "train.optimizer.learning_rate=0.01") == 0
    return tmp_path / "run"


def numbers(values: Any, path: str = "") -> dict[str, float]:
    """Each number of a nested result, by its path."""
    if isinstance(values, dict):
        return {k: v for key, value in values.items() for k, v in numbers(value, f"{path}.{key}").items()}
    if isinstance(values, list):
        return {k: v for place, value in enumerate(values) for k, v in numbers(value, f"{path}.{place}").items()}
    counted = isinstance(values, (int, float)) and not isinstance(values, bool)
    return {path: float(values)} if counted else {}


def test_an_evaluation_with_all_trials_agrees_with_the_cpu(
    gpu: torch.device, run: Path, tmp_path: Path, figure: Callable[[str], None]
):
    found = []
    for device in (CPU, gpu):
        output = tmp_path / f"evaluated_on_{device.type}_{len(found)}"
        request = EvaluationRequest(
            run=str(run), output=output, sanity=True, transfer=True, baselines=(), pictures=2, max_scenes=2
        )
        found.append(numbers(evaluate(request, Process(0, 1, 1, device))))
    right, ours = ({key: value for key, value in each.items() if "psnr" in key or "ssim" in key} for each in found)
    assert ours.keys() == right.keys()
    apart = {key: abs(ours[key] - value) for key, value in right.items() if isfinite(value)}
    worst = max(apart, key=lambda key: apart[key])
    figure(f"{len(apart)} numbers, largest difference {apart[worst]:.1e} ({worst.strip('.')})")
    assert apart[worst] < 0.02  # dB


def test_frames_of_a_video_agree_with_the_cpu(
    gpu: torch.device, run: Path, tmp_path: Path, figure: Callable[[str], None]
):
    photos, clips = tmp_path / "photos", []
    photos.mkdir()
    generator = np.random.default_rng(0)
    for number in range(4):
        low = generator.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{number}.png"), cv2.resize(low, (32, 24), interpolation=cv2.INTER_CUBIC))
    for device in (CPU, gpu):
        output = tmp_path / f"{device.type}_{len(clips)}.mp4"
        request = VideoRequest(
            run=str(run), images=photos, output=output, path=PathChoice(num_frames=12), device=str(device)
        )
        assert make_video(request, say=lambda note: None).num_frames == 12
        clips.append(decoded(output))
    worst = max(np.abs(one - other).mean() for one, other in zip(*clips, strict=True))
    figure(f"{len(clips[1])} frames, largest mean difference {worst:.2f} of 255")
    assert worst < 2


def decoded(file: Path) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(str(file)), []
    while True:
        good, frame = video.read()
        if not good:
            return frames
        frames.append(frame.astype(np.float32))


def test_replaying_a_skipped_step_gives_the_same_numbers(
    gpu: torch.device, train_file: TrainFile, tmp_path: Path, figure: Callable[[str], None]
):
    fp32 = f"deepspeed={ROOT / 'ds_configs/zero2_fp32.json'}"
    rule = 'train.bad_steps={"norm_factor": 1, "grace_steps": 1, "max_in_a_row": 1}'
    assert train_file(TINY, tmp_path, *QUIET, fp32, rule, "train.clip_norm=1e-6") == 3
    (dump,) = (tmp_path / "bad_steps").iterdir()
    step = replay(dump, device=gpu)
    figure(f"norm {step.recorded_norm:.4g}, replayed {step.norm:.4g}")
    assert step.same
    assert json.loads((dump / "step.json").read_text())["reason"].startswith("gradient norm")


def test_a_batch_that_runs_out_of_memory_is_halved(gpu: torch.device, figure: Callable[[str], None]):
    """The test limits the memory of the GPU for this process."""
    if gpu.type != "cuda":
        pytest.skip("a CPU raises no error when memory runs out")
    each, fitting, calls = 2**26, 5, []
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(gpu) + fitting * each) / total, gpu)

    def work(some: slice) -> torch.Tensor:
        views = torch.arange(16, device=gpu)[some]
        calls.append(len(views))
        heavy = torch.empty(len(views), each, dtype=torch.uint8, device=gpu)
        return views + 0 * heavy.shape[0]

    try:
        results = torch.cat(list(FittingBatches(16, device=gpu).each(16, work, advice="")))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
        torch.cuda.empty_cache()
    figure(f"views of a batch: {calls}")
    assert len(results) == 16
    assert calls[:3] == [16, 8, 4]
    assert torch.cuda.is_available()
    assert distance([results.float()], [torch.arange(16.0)]) == 0


def test_the_device_works_after_running_out_of_memory(gpu: torch.device):
    """A single view that does not fit gives an error, and the next call works."""
    from openrayzer.interfaces import InputError

    if gpu.type != "cuda":
        pytest.skip("a CPU raises no error when memory runs out")
    more = 2 * torch.cuda.get_device_properties(gpu).total_memory

    def work(some: slice) -> torch.Tensor:
        return torch.empty(more, dtype=torch.uint8, device=gpu)

    with pytest.raises(InputError, match="not enough memory for a single view: take smaller images"):
        list(FittingBatches(2, device=gpu).each(4, work, advice="take smaller images"))
    assert torch.ones(3, device=gpu).sum().item() == 3
