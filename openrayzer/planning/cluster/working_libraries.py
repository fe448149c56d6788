"""Checks of the libraries that openrayzer uses: attention, xformers, the compiler, DeepSpeed and rasterisers."""

import os
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from openrayzer.interfaces import ATTENTION_BACKENDS, RASTERISERS, Gaussians
from openrayzer.planning.cluster.findings import Finding, Verdict
from openrayzer.planning.cluster.installation import package_version
from openrayzer.types import Cameras

DTYPES = (torch.bfloat16, torch.float32)
CHOOSE = "auto"
AGREEMENT = 1e-3
"""Largest relative difference between two devices; a wrong order of Gaussians gives more."""
HEAD_WIDTH = 64
"""Head width of the full-size experiments."""


def check_attention(device: torch.device) -> Iterator[Finding]:
    """Call every attention backend in each dtype, forward and backward, and find the choice of ``auto``."""
    query = {dtype: torch.zeros(1, 64, 2, HEAD_WIDTH, dtype=dtype, device=device) for dtype in DTYPES}
    for entry in ATTENTION_BACKENDS:
        if entry.name == CHOOSE:
            continue
        backend = entry.target()
        refusals = {dtype: backend.refusal(heads) for dtype, heads in query.items()}
        name = f"attention {entry.name}"
        yield Finding(name, "warning" if all(refusals.values()) else "ok", _by_reason(refusals))
    for dtype, heads in query.items():
        yield _choice(dtype, heads)


def _choice(dtype: torch.dtype, heads: torch.Tensor) -> Finding:
    """The choice of ``auto``, and a warning without a fused kernel: then memory grows with the tokens squared."""
    refusals = ATTENTION_BACKENDS[CHOOSE]().refusals(heads, heads)  # type: ignore[attr-defined]
    name = next(name for name, why in refusals.items() if not why)
    poor = "" if dtype == torch.float32 or name not in ("sdpa", "reference") else "; no fused kernel works"
    return Finding(f"auto in {_short(dtype)}", "warning" if poor else "ok", f"training uses {name!r}{poor}")


def check_xformers() -> Finding:
    """Whether the operators of xformers load. This needs no GPU: for tensors without content, rules alone decide."""
    with FakeTensorMode():
        query = torch.empty(1, 64, 2, HEAD_WIDTH, dtype=torch.float16, device="cuda")
    version, trouble = package_version("xformers"), ATTENTION_BACKENDS["xformers"]().refusal(query)
    if trouble:
        found = trouble if version == "not installed" else f"{version}; {trouble}"
        return Finding("xformers", "warning", f"{found}; PyTorch's own kernels run without it")
    return Finding("xformers", "ok", f"{version}, its operators load")


def check_compiler(device: torch.device) -> Finding:
    """Whether ``train.compile`` works: compile and run a small function."""
    what, triton = "train.compile", package_version("triton")
    names = [os.environ[name] for name in ("CC", "CXX") if os.environ.get(name)] or ["gcc", "clang", "g++", "c++"]
    if not any(shutil.which(name) for name in names):
        found = f"no C compiler among {', '.join(names)}: apt install build-essential, or set train.compile=false"
        return Finding(what, "warning", found)
    values = torch.ones(1024, device=device)
    try:
        right = bool((torch.compile(_double_and_add)(values) == 3).all())
    except Exception as error:  # a compiler may raise anything
        why = " ".join(str(error).split())[:300]
        return Finding(what, "warning", f"triton {triton}: {type(error).__name__}: {why}; set train.compile=false")
    if not right:
        return Finding(what, "FAILS", f"triton {triton}: a compiled function gives a wrong result")
    return Finding(what, "ok", f"triton {triton}, {shutil.which(names[0]) or names[0]}")


def check_deepspeed(load: Callable[[str], object] = import_module) -> Finding:
    """Whether DeepSpeed can be imported."""
    version = package_version("deepspeed")
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # avoids a warning of DeepSpeed
    try:
        load("deepspeed")
    except Exception as error:  # DeepSpeed probes the machine when it is imported, and may raise anything
        found = f"{version}, cannot be imported: {type(error).__name__}: {error}: pip install 'deepspeed>=0.19,<0.20'"
        return Finding("deepspeed", "FAILS", found)
    return Finding("deepspeed", "ok", version)


def check_operators() -> Finding:
    """Which of DeepSpeed's own optimizers can be compiled here. openrayzer trains with those of PyTorch by default."""
    from deepspeed.accelerator import get_accelerator

    builders = {name: get_accelerator().create_op_builder(f"{name}Builder") for name in ("FusedAdam", "CPUAdam")}
    works = [name for name, builder in builders.items() if builder and builder.is_compatible(verbose=False)]
    compiler = shutil.which("g++") or shutil.which("c++")
    what = "deepspeed operators"
    if not (works and compiler):
        found = "cannot be compiled; training works without them. They need g++, on a GPU also nvcc: apt install g++"
        return Finding(what, "absent", found)
    return Finding(what, "ok", f"{' and '.join(works)} can be compiled with {compiler}; training works without them")


def check_rasterisers(device: torch.device) -> Iterator[Finding]:
    """Whether a device draws Gaussians as the CPU does, forward and backward, and the choice of ``auto``."""
    what, difference = "rasteriser torch", _difference_from_cpu(device)
    if difference < AGREEMENT:
        yield Finding(what, "ok", f"images and gradients are those of the CPU, up to {difference:.1g}")
    else:
        yield Finding(what, "FAILS", f"images or gradients differ from those of the CPU by {difference:.1g}")
    yield check_gsplat(device)


def check_gsplat(device: torch.device) -> Finding:
    """Whether the kernels of gsplat draw a small scene as "torch" does, and the choice of "auto"."""
    version = package_version("gsplat")
    trouble = RASTERISERS["gsplat"]().refusal(device)
    verdict: Verdict = "absent" if version == "not installed" else "warning" if trouble else "ok"
    if trouble:
        return Finding("rasteriser gsplat", verdict, f"{version}; {trouble}; 'auto' takes 'torch'")
    return Finding(
        "rasteriser gsplat", verdict, f"{version}, images and gradients are those of 'torch'; 'auto' takes 'gsplat'"
    )


def _difference_from_cpu(device: torch.device) -> float:
    """Largest difference of images and gradients of a small scene, relative to their largest entry."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.rand(1, 16, *tail, generator=generator) for tail in ((3,), (3,), (4,), (), (4, 3))]
    parts[0] = 2 * parts[0] + torch.tensor([-1.0, -1.0, 2.0])
    found = []
    for place in (torch.device("cpu"), device):
        given = [part.to(place).requires_grad_() for part in parts]
        cameras = Cameras(torch.eye(4)[None, None], torch.tensor([[[1.0, 1.5, 0.5, 0.5]]])).to(place)
        background = torch.ones(1, 1, 3, device=place)
        images = RASTERISERS["torch"]().rasterise(Gaussians(*given), cameras, (20, 28), background=background).images
        gradients = torch.autograd.grad(images.square().mean(), given)
        found.append([part.detach().cpu() for part in (images, *gradients)])
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in zip(*found, strict=True))


def _by_reason(refusals: dict[torch.dtype, str]) -> str:
    """The dtypes that work, then the refused dtypes with their reasons."""
    works = [_short(dtype) for dtype, why in refusals.items() if not why]
    reasons: dict[str, list[str]] = {}
    for dtype, why in refusals.items():
        if why:
            reasons.setdefault(why, []).append(_short(dtype))
    refused = [f"not in {' and '.join(dtypes)}: {why}" for why, dtypes in reasons.items()]
    return "; ".join([*([f"runs in {' and '.join(works)}"] if works else []), *refused])


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _double_and_add(values: torch.Tensor) -> torch.Tensor:
    return values * 2 + 1
