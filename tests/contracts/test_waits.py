"""Within a micro-batch, no model, loss or camera head makes the host wait for a GPU. The meter waits once per line."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from waits import Waits, on_fake_gpu

from openrayzer.composer import load_experiment
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.interfaces import CAMERA_HEADS
from openrayzer.layers.view_shares import UNSHARED, ViewShares, share_views
from openrayzer.machine.distributed import Process
from openrayzer.training.engine import Trainee
from openrayzer.training.logs.meter import Meter
from openrayzer.training.weighted_loss import WeightedLoss
from openrayzer.types import Cameras, Views

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(
    file.stem
    for file in (ROOT / "experiments").glob("*.json")
    if not {"model", "loss", "shared"}.isdisjoint(json.loads(file.read_text(encoding="utf-8")))
)
"""All experiments but those that extend another one and keep its model and its loss."""
SIDE = 64


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch):
    """Autocast and the choice of an attention kernel ask the driver, which reports an H100 here."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *given: (9, 0))
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *given: True)


def narrow(name: str) -> list[str]:
    """Overrides that make an experiment small and keep all its parts."""
    given = load_experiment(ROOT / "experiments" / f"{name}.json").resolved["model"]
    if given["type"] == "rayder":
        return ["shared.width=128", "model.depth=1", 'model.attention={"type": "sdpa"}']
    if given["type"] == "rayzer_geometric":
        return []
    at = "model.student" if "student" in given else "model"
    given = given.get("student", given)
    depths = {"estimator_depth", "encoder_depth"} & given.keys()
    latents = [f"{at}.num_latents=8"] * bool(given.get("num_latents"))
    return [
        "shared.width=96", "shared.num_heads=2", *latents,
        *(f"{at}.renderer.{name}=1" for name in {"depth"} & given["renderer"].keys()),
        *(f"{at}.{depth}=1" for depth in sorted(depths)),
        f'{at}.attention={{"type": "sdpa"}}',  # auto would run on the device
    ]  # fmt: skip


def built(name: str, *overrides: str):
    plan = load_experiment(ROOT / "experiments" / f"{name}.json", overrides=[*narrow(name), *overrides])
    with torch.device("meta"):
        return plan.build()


def clips(name: str, patch_size: int) -> Views:
    """Two clips without content. In RayDer, all views but the last are context, all but the first are targets."""
    views, side = 4, SIDE // patch_size * patch_size
    context, target = (3, 3) if "rayder" in name else (2, 2)

    def numbers(count: int) -> torch.Tensor:
        return torch.zeros(2, count, dtype=torch.int64, device="cuda")

    cameras = Cameras(torch.rand(2, views, 4, 4, device="cuda"), torch.rand(2, views, 4, device="cuda"))
    images = torch.rand(2, views, 3, side, side, device="cuda")
    return Views(images, numbers(views), numbers(context), numbers(target), ("one", "two"), cameras)


def micro_batch(experiment, views: Views, shares: ViewShares = UNSHARED) -> None:
    """A micro-batch as in the training loop, without DeepSpeed."""
    trainee = Trainee(experiment.model, autocast=torch.bfloat16).train()
    losses = WeightedLoss(experiment.loss, shares=shares)
    images, c2w, intrinsics, *extra = trainee(views)
    loss = losses(images, views.target_images, step=0)["loss"]
    total = loss + 0 * c2w.sum() + 0 * intrinsics.sum() + sum(extra)
    if torch.cuda.is_available():  # autograd needs a real driver
        total.backward()
    psnr(images.detach().float(), views.target_images).mean()


def waits_of_micro_batch(name: str, *overrides: str) -> list[str]:
    experiment = built(name, *overrides)
    teacher = getattr(experiment.model, "_teacher", ())  # weights that checkpoints must not hold are no submodules
    with on_fake_gpu(experiment.model, *teacher, *(term.loss for term in experiment.loss)), Waits() as waits:
        micro_batch(experiment, clips(name, experiment.model.patch_size))
    return waits.found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_micro_batch_of_no_experiment_waits(name):
    assert waits_of_micro_batch(name) == []


@pytest.mark.parametrize("name", ["rayzer_latent_demo", "rayder_demo", "lvsm_decoder_re10k", "efficient_lvsm_re10k"])
def test_no_process_that_shares_clips_waits(name):
    experiment = built(name)
    shares = ViewShares(2, 0, torch.clone)
    share_views(experiment.model, shares)
    with on_fake_gpu(experiment.model, *(term.loss for term in experiment.loss)), Waits() as waits:
        micro_batch(experiment, clips(name, experiment.model.patch_size), shares)
    assert waits.found == []


@pytest.mark.parametrize("head", [entry.name for entry in CAMERA_HEADS])
def test_a_micro_batch_with_no_camera_head_waits(head):
    assert waits_of_micro_batch("rayzer_latent_demo", f"model.camera_head={json.dumps({'type': head})}") == []


@pytest.mark.parametrize(
    ("wait", "operation"),
    [
        (lambda x: x.sum().item(), "item"),
        (lambda x: x[x > 0], "index"),
        (lambda x: torch.linalg.svd(x), "_linalg_svd"),
        (lambda x: x.cpu(), "_to_copy"),
        (lambda x: x.new_empty(3, 3).copy_(torch.zeros(3, 3)), "copy_"),
        (lambda x: x.new_tensor([1.0, 2.0]), "_to_copy"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: torch.stack([x.sum(), torch.zeros(())]), "stack"),
        (lambda x: x.masked_fill_(x > 0, x.sum()), "masked_fill_"),
    ],
)
def test_operations_that_wait_are_found(wait, operation):
    """Without this, an empty list of waits would prove nothing."""
    with on_fake_gpu(), Waits() as waits:
        x = torch.rand(3, 3, device="cuda")
        with suppress(DynamicOutputShapeException):
            wait(x)
    assert [found.partition(" ")[0] for found in waits.found] == [operation]


def test_a_line_of_metrics_waits_once_even_with_a_norm_on_the_cpu():
    process = Process(0, 0, 1, torch.device("cuda"))
    with on_fake_gpu(), Waits() as waits:
        meter = Meter()
        for _ in range(2):
            loss = torch.rand((), device="cuda", dtype=torch.float32)
            meter.add({"loss": loss, "psnr": loss, "grad_norm": torch.rand(())})
        assert waits.found == []
        assert {"loss", "psnr", "grad_norm"} < meter.line(process).keys()
    assert [found.partition(" ")[0] for found in waits.found] == ["_to_copy"]
