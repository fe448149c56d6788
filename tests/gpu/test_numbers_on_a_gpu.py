"""Losses, metrics and geometry on a GPU, compared with the CPU, with TF32 allowed and not.

All of them compute in exact float32, so TF32 must not change the results.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from gpu_suite import difference, distance
from torch import Tensor

from openrayzer.evaluation.metrics.image_metrics import psnr, ssim
from openrayzer.geometry.rays import plucker_rays
from openrayzer.geometry.rotations import geodesic_angle, rotation_from_6d, rotation_from_9d, so3_exp, so3_log
from openrayzer.interfaces import LOSSES
from openrayzer.layers.lpips import Lpips
from openrayzer.layers.tf32 import tf32_products
from openrayzer.types import Cameras

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
NAMES = [entry.name for entry in LOSSES if entry.target.__module__.startswith("openrayzer.")]
FLOAT32 = 1e-4
"""Allowed error; TF32 has 10 bits, so its error of 1e-3 would exceed it."""
VGG19 = [
    (0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
    (16, 256, 256), (19, 256, 512), (21, 512, 512), (23, 512, 512), (25, 512, 512), (28, 512, 512), (30, 512, 512),
]  # fmt: skip
ALEXNET = [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)]


@pytest.fixture(params=[False, True], ids=["ieee", "tf32"])
def rounding(gpu: torch.device, request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The GPU, with exact float32 products or with TF32 allowed."""
    with tf32_products(request.param):
        yield gpu


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Arguments of losses with a network, by name, with files of random weights that preserve the scale."""
    folder = tmp_path_factory.mktemp("backbones")
    vgg = _features([(index, inputs, outputs, 3) for index, inputs, outputs in VGG19])
    torch.save(vgg, folder / "vgg19.pt")
    torch.save(_features(ALEXNET), folder / "alexnet.pth")
    return {
        "perceptual": {"weights": folder / "vgg19.pt", "precision": "float32"},
        "lpips": {"backbone": folder / "alexnet.pth", "net": "alex"},
    }


def _features(layers: list[tuple[int, int, int, int]]) -> dict[str, Tensor]:
    generator, state = torch.Generator().manual_seed(0), {}
    for index, inputs, outputs, side in layers:
        scale = (2 / (inputs * side * side)) ** 0.5
        state[f"features.{index}.weight"] = (
            torch.randn(outputs, inputs, side, side, generator=generator) * scale
        )  # He's initialization
        state[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    return state


def images(seed: int) -> Tensor:
    return torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_and_its_gradient_agree_with_the_cpu(
    rounding: torch.device, name: str, backbones: dict[str, dict[str, object]], figure: Callable[[str], None]
):
    found = []
    for device in (CPU, rounding):
        loss = LOSSES[name](**backbones.get(name, {})).to(device)
        prediction, target = images(0).to(device).detach().requires_grad_(), images(1).to(device)
        value = loss(prediction, target)
        value.backward()
        found.append((value, prediction.grad))
    (right, right_gradient), (value, gradient) = found
    errors = difference(value, right), distance([gradient], [right_gradient])
    figure(f"value {errors[0]:.1e}, gradient {errors[1]:.1e}")
    assert errors[0] < FLOAT32
    assert errors[1] < 10 * FLOAT32  # near the kink of a ReLU or absolute value, both gradients are right


def test_gradients_of_the_perceptual_loss_in_bfloat16_have_the_same_direction(
    gpu: torch.device, backbones: dict[str, dict[str, object]], figure: Callable[[str], None]
):
    """bfloat16 is the default of training on a GPU."""
    values, gradients = [], []
    for device, precision in ((CPU, "float32"), (gpu, "bfloat16")):
        loss = LOSSES["perceptual"](**backbones["perceptual"] | {"precision": precision}).to(device)
        prediction = images(0).to(device).detach().requires_grad_()
        value = loss(prediction, images(1).to(device))
        value.backward()
        values.append(value)
        gradients.append(prediction.grad.cpu().flatten())
    error = difference(values[1], values[0])
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0).item()
    figure(f"value {error:.1e}, cosine of the gradients {cosine:.4f}")
    assert error < 0.02
    assert cosine > 0.98


def test_metrics_agree_with_the_cpu(
    rounding: torch.device, backbones: dict[str, dict[str, object]], figure: Callable[[str], None]
):
    lpips = Lpips(net="alex", backbone=Path(str(backbones["lpips"]["backbone"])))
    found = {}
    for name, measure in {"psnr": psnr, "ssim": ssim, "lpips": lpips}.items():
        right = measure(images(0), images(1))
        moved = lpips.to(rounding) if name == "lpips" else measure
        found[name] = difference(moved(images(0).to(rounding), images(1).to(rounding)), right)
    figure(", ".join(f"{name} {error:.1e}" for name, error in found.items()))
    assert max(found.values()) < FLOAT32


def test_the_nearest_rotation_and_its_gradient_agree_with_the_cpu(
    rounding: torch.device, figure: Callable[[str], None]
):
    """For random matrices, rotations, reflections, and the identity with its equal singular values."""
    generator = torch.Generator().manual_seed(3)
    random = torch.randn(4096, 9, generator=generator)
    turned = so3_exp(torch.randn(512, 3, generator=generator)).flatten(1)
    wanted = torch.randn(5121, 3, 3, generator=generator)
    values = torch.cat([random, turned, -turned, torch.eye(3).reshape(1, 9)])
    results = []
    for device in (CPU, rounding):
        given = values.clone().to(device).detach().requires_grad_()
        rotation = rotation_from_9d(given)
        (rotation * wanted.to(device)).sum().backward()
        results.append((rotation.detach(), given.grad))
    (right, right_gradient), (rotation, gradient) = results
    apart = rotation.mT.cpu() @ rotation.cpu() - torch.eye(3)
    settled = right_gradient.norm(dim=1) < 100  # if two singular values nearly cancel, the problem is ill-conditioned
    errors = (
        distance([rotation.cpu()[settled]], [right[settled]]),
        distance([gradient.cpu()[settled]], [right_gradient[settled]]),
    )
    figure(f"rotation {errors[0]:.1e}, gradient {errors[1]:.1e}, from orthogonal {apart.abs().max():.1e}")
    assert settled.float().mean() > 0.85  # reflections are ill-conditioned
    assert apart.abs().max() < 1e-5
    assert errors[0] < FLOAT32
    assert errors[1] < 1e-2


def test_geometry_agrees_with_the_cpu(rounding: torch.device, figure: Callable[[str], None]):
    generator = torch.Generator().manual_seed(4)
    turns, six = torch.randn(256, 3, generator=generator), torch.randn(256, 6, generator=generator)
    c2w = torch.eye(4).repeat(2, 3, 1, 1)
    c2w[..., :3, 3] = torch.rand(2, 3, 3, generator=generator)
    cameras = Cameras(c2w, torch.tensor([0.8, 1.1, 0.5, 0.5]).repeat(2, 3, 1))
    maps: dict[str, Callable[[torch.device], Tensor]] = {
        "exp": lambda device: so3_exp(turns.to(device)),
        "log": lambda device: so3_log(so3_exp(turns.to(device))),
        "6d": lambda device: rotation_from_6d(six.to(device)),
        "angle": lambda device: geodesic_angle(so3_exp(turns.to(device)), rotation_from_6d(six.to(device))),
        "rays": lambda device: plucker_rays(cameras.to(device), (32, 48)),
    }
    found = {name: distance([compute(rounding)], [compute(CPU)]) for name, compute in maps.items()}
    figure(", ".join(f"{name} {error:.1e}" for name, error in found.items()))
    assert max(found.values()) < FLOAT32
