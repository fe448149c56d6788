"""Whether the GPUs of this machine can be used by this PyTorch: each is given something small to do."""

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from openrayzer.cluster.findings import Finding
from openrayzer.cluster.installation import describe, dotted, driver_version, nccl_version

BFLOAT16 = (8, 0)
"""Compute capability from which a GPU multiplies in bfloat16."""
PINNED = 64 * 2**20
"""Bytes; more than the clips that are on their way at once."""
SHARED = 2**30
"""Bytes of /dev/shm, through which loading processes hand over their clips."""
FREE = 20 * 2**30
"""Bytes of disk: a few checkpoints of a full-size model."""


def check_torch() -> Finding:
    """A build for CUDA."""
    said = f"{torch.__version__}, CUDA {torch.version.cuda}"
    if torch.version.cuda is None:
        remedy = "a build without CUDA: pip install --force-reinstall torch torchvision"
        return Finding("torch", "FAILS", f"{torch.__version__}, {remedy}")
    return Finding("torch", "ok", said)


def check_driver() -> Finding:
    """A driver that PyTorch can talk to, and a GPU."""
    version = driver_version()
    if torch.cuda.is_available():
        return Finding("driver", "ok", version or "there, its version is not")
    needed = f"needed are an NVIDIA GPU and a driver for CUDA {torch.version.cuda or '12 or 13'}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip("-1, "):
        why = f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU"
    elif torch.version.cuda is None:
        why = "this PyTorch cannot see one"
    else:
        why = _refused(lambda: torch.cuda.init()) or "PyTorch sees no GPU"
    return Finding("driver", "FAILS", f"{version or 'none found'}; {why}; {needed}")


def check_gpus() -> Iterator[Finding]:
    """Each GPU multiplies and convolves right, and has bfloat16."""
    for number in range(torch.cuda.device_count()):
        device, name = torch.device("cuda", number), f"GPU {number}"
        if problem := _refused(lambda device=device: _multiply(device)):  # type: ignore[misc]
            yield Finding(name, "FAILS", f"{describe(number)}; {problem}{_architectures(device)}")
            continue
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(device))
        shared = "; other programs use it" if free < 0.8 * total else ""
        yield Finding(name, "warning" if shared else "ok", f"{describe(number)}, {free:.0f} GiB free{shared}")
        if torch.cuda.get_device_capability(device) < BFLOAT16:
            found = f"GPU {number} has none: take --set deepspeed=ds_configs/zero2_fp32.json"
            yield Finding("bfloat16", "warning", found)
        problem = _refused(lambda device=device: _convolve(device))  # type: ignore[misc]
        version = dotted(torch.backends.cudnn.version())
        yield Finding(
            "cuDNN", "FAILS" if problem else "ok", f"{version}, on GPU {number}{'; ' * bool(problem)}{problem}"
        )


def check_nccl() -> Finding:
    """What talks between GPUs."""
    version = nccl_version()
    if version == "none":
        several = torch.cuda.device_count() > 1
        found = "PyTorch was built without it; one process trains, several do not"
        return Finding("NCCL", "FAILS" if several else "warning", found)
    return Finding("NCCL", "ok", version)


def check_pinned_memory() -> Finding:
    """Memory from which clips are copied while the GPU computes."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    said = f"ulimit -l {'unlimited' if limit == resource.RLIM_INFINITY else f'{limit >> 10} KiB'}"
    if problem := _refused(lambda: torch.empty(PINNED, dtype=torch.uint8).pin_memory()):
        return Finding("pinned memory", "FAILS", f"{PINNED >> 20} MiB could not be pinned: {problem}; {said}")
    return Finding("pinned memory", "ok", f"{PINNED >> 20} MiB pinned; {said}")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Small in containers that were started without more."""
    size = shutil.disk_usage(folder).free if folder.is_dir() else 0
    if size < SHARED:
        remedy = "start the container with --shm-size=16g, or train with --set data.workers=0"
        return Finding("shared memory", "warning", f"{size / 2**30:.2f} GiB free in {folder}; {remedy}")
    return Finding("shared memory", "ok", f"{size / 2**30:.1f} GiB free in {folder}")


def check_disk(folder: Path) -> Finding:
    """Free space where runs will be written."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    few = "; checkpoints of a full-size model take 2 to 5 GiB each" * (free < FREE)
    return Finding("disk", "warning" if few else "ok", f"{free / 2**30:,.0f} GiB free in {there}{few}")


def _refused(call: Callable[[], object]) -> str:
    """Why ``call`` fails, in one line; empty if it does not."""
    try:
        call()
    except (RuntimeError, AssertionError, OSError, ImportError) as error:  # of the driver, CUDA and its libraries
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def _multiply(device: torch.device) -> None:
    """A product whose result is known; in bfloat16 where the GPU has that."""
    dtype = torch.bfloat16 if torch.cuda.get_device_capability(device) >= BFLOAT16 else torch.float32
    ones = torch.ones(256, 256, dtype=dtype, device=device)
    wrong = int((ones @ ones != 256).sum())
    if wrong:
        raise RuntimeError(f"{wrong} of {256 * 256} numbers of a matrix product are wrong")


def _convolve(device: torch.device) -> None:
    """Forward and backward, as the perceptual loss does."""
    image = torch.ones(1, 8, 16, 16, device=device, requires_grad=True)
    kernel = torch.ones(8, 8, 3, 3, device=device)
    torch.nn.functional.conv2d(image, kernel, padding=1).sum().backward()
    torch.cuda.synchronize(device)


def _architectures(device: torch.device) -> str:
    built, (major, minor) = torch.cuda.get_arch_list(), torch.cuda.get_device_capability(device)
    if any(name.removeprefix("sm_").removeprefix("compute_").rstrip("af") == f"{major}{minor}" for name in built):
        return ""
    return f"; this PyTorch was built for {', '.join(built)}, the GPU has {major}.{minor}"
