"""Each experiment's model and each camera head on a GPU, in float32 and bfloat16, compared with float32 on the CPU."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from gpu_suite import NARROW, clips, distance, experiments, model_of
from torch import Tensor

from openrayzer.interfaces import CAMERA_HEADS, InputError, Model

pytestmark = pytest.mark.gpu
HEADS = [entry.name for entry in CAMERA_HEADS if entry.target.__module__.startswith("openrayzer.")]
CASES = dict(experiments()) | {
    f"rayzer_latent_demo with {head}": (*NARROW, f'model.camera_head={{"type": "{head}"}}') for head in HEADS
}
FLOAT32 = 1e-3
"""Allowed distance of images, cameras and gradients. Sums in another order differ by about 1e-6 in each layer."""
BFLOAT16 = {"images": 0.1, "cameras": 0.1, "gradients": 0.35}
"""Allowed distances. bfloat16 has 8 bits, errors grow with the layers, and gradients pass all layers twice."""


def results(model: Model, name: str, device: torch.device, *, bf16: bool) -> dict[str, list[Tensor]]:
    """Images, cameras and gradients of a training step without its optimizer."""
    model = model.to(device).train()
    views = clips(name, device)
    model.zero_grad()
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        prediction = model(views)
    target = views.target_images
    cameras = prediction.cameras
    loss = (prediction.images.float() - target).square().mean() + 0.01 * cameras.c2w.square().mean()
    loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return {
        "images": [prediction.images.detach().cpu()],
        "cameras": [cameras.c2w.detach().cpu(), cameras.intrinsics.detach().cpu()],
        "gradients": [gradient.detach().cpu() for gradient in gradients],
    }


@pytest.mark.parametrize("case", CASES)
def test_gpu_and_cpu_agree(gpu: torch.device, case: str, figure: Callable[[str], None]):
    name, changes = case.partition(" ")[0], CASES[case]
    right = results(model_of(name, *changes), name, torch.device("cpu"), bf16=False)
    for title, bf16, allowed in (
        ("float32", False, dict.fromkeys(right, FLOAT32)),
        ("bfloat16", True, BFLOAT16),
    ):
        ours = results(model_of(name, *changes), name, gpu, bf16=bf16)
        found = {what: distance(ours[what], values) for what, values in right.items()}
        figure(f"{title}: " + ", ".join(f"{what} {error:.1e}" for what, error in found.items()))
        assert {what: error for what, error in found.items() if not error < allowed[what]} == {}


@pytest.mark.parametrize("name", dict(experiments()))
def test_rendering_and_extending_a_prepared_scene_agree_with_the_cpu(
    gpu: torch.device, name: str, figure: Callable[[str], None]
):
    """Without gradients, as in evaluation and videos."""
    pictures = []
    for device in (torch.device("cpu"), gpu):
        model = model_of(name, *dict(experiments())[name]).to(device).eval()
        views = clips(name, device)
        with torch.no_grad():
            cameras = model.cameras_of(views)
            targets = cameras.select(views.target)
            scene = model.reconstruct(views.context_images, cameras.select(views.context), views.context)
            found = [model.render(scene, targets), model.render(model.prepare(scene), targets)]
            try:
                longer = model.extend(model.prepare(scene), views.images[:, -1:], cameras.select(views.target[:, -1:]))
                found.append(model.render(longer, targets))
            except InputError:
                pass  # in this model all context views see each other
        pictures.append(found)
    errors = [distance([ours], [right]) for right, ours in zip(*pictures, strict=True)]
    figure(", ".join(f"{error:.1e}" for error in errors))
    assert max(errors) < FLOAT32
