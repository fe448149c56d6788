"""The geometric model on a GPU: the cameras and pictures of a CPU, and no wait of the host."""

from collections.abc import Callable

import pytest
import torch
from gpu_suite import ROOT
from painted_room import painted_rooms

from openrayzer.composer import load_experiment
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.interfaces import Model

pytestmark = pytest.mark.gpu
CHANGES = ('loss=[{"loss": {"type": "mse"}}]', "model.renderer.activation_checkpointing=1")


def geometric(device: torch.device) -> Model:
    """The model of ``rayzer_geometric_re10k`` with the same initial weights on every device."""
    torch.manual_seed(0)
    model = load_experiment(ROOT / "experiments/rayzer_geometric_re10k.json", overrides=CHANGES).build().model
    return model.to(device)


@pytest.mark.parametrize("bf16", [False, True])
def test_cameras_and_pictures_of_a_gpu_agree_with_those_of_a_cpu(
    gpu: torch.device, bf16: bool, figure: Callable[[str], None]
):
    found = []
    for device in (torch.device("cpu"), gpu):
        views = painted_rooms(2, image_size=(64, 96), num_views=6).to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16 and device.type == "cuda"):
            prediction = geometric(device).eval()(views)
        found.append((prediction.cameras.to("cpu").c2w, prediction.images.float().cpu()))
    (right, pictures), (ours, rendered) = found
    wrong = (ours - right).abs().max().item()
    figure(f"cameras differ by {wrong:.1e}, pictures by {psnr(rendered, pictures).min():.1f} dB")
    assert wrong < (0.05 if bf16 else 0.01)
    assert psnr(rendered, pictures).min() > (30 if bf16 else 35)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_the_host_never_waits_in_a_micro_batch(gpu: torch.device):
    """More views than ``max_neighbours``, so that the graph of views is built."""
    model = geometric(gpu).train()
    views = painted_rooms(1, image_size=(64, 64), num_views=12).to(gpu)
    for mode in ("default", "error"):  # the first micro-batch makes libraries and workspaces
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast("cuda", torch.bfloat16):
                prediction = model(views)
            (prediction.images.float().mean() + sum(prediction.extra_losses.values())).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
