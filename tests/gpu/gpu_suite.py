"""Shared parts of the GPU suite: the order of its files, distances between results, and small experiments."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from openrayzer.composer import load_experiment
from openrayzer.interfaces import AttentionBackend, Model
from openrayzer.types import Cameras, Views

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/training/tiny_rayzer.json"
TINY_RAYDER = ROOT / "tests/training/tiny_rayder.json"
ORDER = (
    "test_attention_kernels", "test_attention_among_views", "test_models_on_a_gpu", "test_geometric_on_a_gpu",
    "test_numbers_on_a_gpu", "test_training_on_a_gpu", "test_resume_on_a_gpu", "test_waits", "test_tools_on_a_gpu",
    "test_compiled_on_a_gpu", "test_full_size", "test_two_gpus",
)  # fmt: skip
"""Files of the suite. Each relies on the earlier ones."""
SMALL_ROOMS = tuple(
    f"data.{split}[0].dataset.{change}"
    for split in ("train", "test")
    for change in ("num_train=8", "num_test=2", "num_frames=12")
)
"""Changes of a demo to fewer rooms, which take a second to make."""
MSE = 'loss=[{"loss": {"type": "mse"}}]'
NARROW = ("shared.width=96", "shared.num_heads=2")
NARROW_RAYDER = ("shared.width=128", "model.depth=2", "model.state_dropout=0.0")
ALLOWED = {torch.float64: 1e-10, torch.float32: 2e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Allowed error of attention by dtype: the largest difference from float64, relative to the largest value.

Half precision rounds weights and outputs to 8 or 11 bits. In float32, kernels may split numbers into three TF32 parts.
"""


def difference(ours: Tensor, right: Tensor) -> float:
    """Largest difference relative to the largest value of ``right``; infinite if ``ours`` is not finite."""
    ours, right = (x.detach().to("cpu", torch.float64) for x in (ours, right))
    apart = ((ours - right).abs().max() / right.abs().max().clamp(min=1e-30)).item()
    return apart if apart == apart else float("inf")


def distance(ours: Iterable[Tensor], right: Iterable[Tensor]) -> float:
    """Length of the difference relative to the length of ``right``, with all tensors in one vector."""
    one, other = (torch.cat([x.detach().to("cpu", torch.float64).flatten() for x in xs]) for xs in (ours, right))
    apart = ((one - other).norm() / other.norm().clamp(min=1e-30)).item()
    return apart if apart == apart else float("inf")


def with_gradients(
    function: Callable[..., Tensor], *inputs: Tensor, device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """The result on ``device`` in ``dtype``, and gradients of its product with fixed numbers, moved to the CPU."""
    moved = [x.detach().to(device, dtype).requires_grad_() for x in inputs]
    result = function(*moved)
    wanted = torch.randn(result.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    gradients = torch.autograd.grad((result * wanted.to(device, result.dtype)).sum(), moved)
    return [x.detach().cpu() for x in (result, *gradients)]


def rounded(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Random float64 numbers that ``dtype`` represents exactly, so that only the computation differs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).double()


def refusal(backend: AttentionBackend, device: torch.device, dtype: torch.dtype) -> str:
    """The reason why a backend refuses heads of width 64 on a device; empty if it accepts them."""
    return backend.refusal(torch.zeros(1, 64, 2, 64, device=device, dtype=dtype))


def experiments() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each experiment file with a transformer, and changes that make its model small."""
    for file in sorted((ROOT / "experiments").glob("*.json")):
        # See test_geometric_on_a_gpu.py. The model of 'taught' is the one of another experiment.
        if load_experiment(file).resolved["model"]["type"] in ("rayzer_geometric", "taught"):
            continue
        if "rayder" in file.stem:
            yield file.stem, NARROW_RAYDER
            continue
        small = [*NARROW, "model.renderer.depth=2"]
        if "decoder" not in file.stem:
            small += ["model.encoder_depth=2", "model.num_latents=16"]
        yield file.stem, tuple(small if "lvsm" in file.stem else [*small, "model.estimator_depth=2"])


def model_of(name: str, *changes: str) -> Model:
    """The model of an experiment on the CPU, with fixed weights that are large enough to matter."""
    plan = load_experiment(ROOT / f"experiments/{name}.json", overrides=[MSE, *changes])
    torch.manual_seed(0)
    model = plan.build().model
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():  # with the initial zeros all cameras would be equal
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


def clips(name: str, device: torch.device) -> Views:
    """Two clips of six posed views of noise that fit the model of an experiment."""
    context, target, size = (5, 5, (64, 96)) if "rayder" in name else (4, 2, (64, 64))
    generator = torch.Generator().manual_seed(2)
    c2w = torch.eye(4).repeat(2, 6, 1, 1)
    c2w[..., :3, 3] = torch.rand(2, 6, 3, generator=generator)
    return Views(
        images=torch.rand(2, 6, 3, *size, generator=generator),
        frames=torch.arange(6).repeat(2, 1),
        context=torch.arange(context).repeat(2, 1),
        target=torch.arange(6 - target, 6).repeat(2, 1),
        scenes=("attic", "cellar"),
        cameras=Cameras(c2w, torch.tensor([0.8, 1.2, 0.5, 0.5]).repeat(2, 6, 1)),
    ).to(device)
