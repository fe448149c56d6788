"""Checks of this machine: PyTorch, driver, GPUs, pinned and shared memory, disk. Each GPU does a small computation."""

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from openrayzer.planning.cluster.findings import Finding
from openrayzer.planning.cluster.installation import describe, dotted, driver_version, nccl_version

BFLOAT16 = (8, 0)
"""Lowest compute capability of a GPU that multiplies in bfloat16."""
PINNED = 64 * 2**20
"""Bytes of pinned memory that the check allocates, more than all clips that are copied to a GPU at one time."""
SHARED = 2**30
"""Bytes needed in /dev/shm, through which data workers pass their clips."""
FREE = 20 * 2**30
"""Bytes of disk needed for a few checkpoints of a full-size model."""


def check_torch() -> Finding:
    """Whether this PyTorch is a build for CUDA."""
    if torch.version.cuda is None:
        remedy = "a build without CUDA: pip install --force-reinstall torch torchvision"
        return Finding("torch", "FAILS", f"{torch.__version__}, {remedy}")
    return Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda}")


def check_driver() -> Finding:
    """Whether PyTorch finds a GPU and a driver."""
    version = driver_version()
    if torch.cuda.is_available():
        return Finding("driver", "ok", version or "found, its version is unknown")
    needed = f"needed are an NVIDIA GPU and a driver for CUDA {torch.version.cuda or '12 or 13'}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip("-1, "):
        why = f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU"
    elif torch.version.cuda is None:
        why = "this PyTorch is built for CPUs only"
    else:
        why = _refused(lambda: torch.cuda.init()) or "PyTorch sees no GPU"
    return Finding("driver", "FAILS", f"{version or 'none found'}; {why}; {needed}")


def check_gpus() -> Iterator[Finding]:
    """Whether each GPU computes a matrix product and a convolution correctly, and whether it has bfloat16."""
    for number in range(torch.cuda.device_count()):
        device, name = torch.device("cuda", number), f"GPU {number}"
        if problem := _refused(lambda device=device: _multiply(device)):  # type: ignore[misc]
            yield Finding(name, "FAILS", f"{describe(number)}; {problem}{_architectures(device)}")
            continue
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(device))
        shared = "; other programs use it" if free < 0.8 * total else ""
        yield Finding(name, "warning" if shared else "ok", f"{describe(number)}, {free:.0f} GiB free{shared}")
        if torch.cuda.get_device_capability(device) < BFLOAT16:
            found = f"GPU {number} has no bfloat16: train with --set deepspeed=ds_configs/zero2_fp32.json"
            yield Finding("bfloat16", "warning", found)
        problem = _refused(lambda device=device: _convolve(device))  # type: ignore[misc]
        version = dotted(torch.backends.cudnn.version())
        yield Finding(
            "cuDNN", "FAILS" if problem else "ok", f"{version}, on GPU {number}{'; ' * bool(problem)}{problem}"
        )


def check_nccl() -> Finding:
    """Whether this PyTorch has NCCL, the library for communication between GPUs."""
    version = nccl_version()
    if version == "none":
        several = torch.cuda.device_count() > 1
        found = "this PyTorch has no NCCL: one process can train, several cannot"
        return Finding("NCCL", "FAILS" if several else "warning", found)
    return Finding("NCCL", "ok", version)


def check_pinned_memory() -> Finding:
    """Whether memory can be pinned, so that clips are copied while the GPU computes."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    allowed = f"ulimit -l {'unlimited' if limit == resource.RLIM_INFINITY else f'{limit >> 10} KiB'}"
    if problem := _refused(lambda: torch.empty(PINNED, dtype=torch.uint8).pin_memory()):
        return Finding("pinned memory", "FAILS", f"{PINNED >> 20} MiB could not be pinned: {problem}; {allowed}")
    return Finding("pinned memory", "ok", f"{PINNED >> 20} MiB pinned; {allowed}")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Whether shared memory is large enough. In containers it is small by default."""
    size = shutil.disk_usage(folder).free if folder.is_dir() else 0
    if size < SHARED:
        remedy = "start the container with --shm-size=16g, or train with --set data.workers=0"
        return Finding("shared memory", "warning", f"{size / 2**30:.2f} GiB free in {folder}; {remedy}")
    return Finding("shared memory", "ok", f"{size / 2**30:.1f} GiB free in {folder}")


def check_disk(folder: Path) -> Finding:
    """Whether the disk for runs has free space."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    few = "; checkpoints of a full-size model take 2 to 5 GiB each" * (free < FREE)
    return Finding("disk", "warning" if few else "ok", f"{free / 2**30:,.0f} GiB free in {there}{few}")


def _refused(call: Callable[[], object]) -> str:
    """The error of ``call`` in one line; empty if it succeeds."""
    try:
        call()
    except (RuntimeError, AssertionError, OSError, ImportError) as error:  # of the driver, CUDA or its libraries
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def _multiply(device: torch.device) -> None:
    """A product with a known result, in bfloat16 if the GPU has it.

    Raises:
        RuntimeError: some numbers are wrong.
    """
    dtype = torch.bfloat16 if torch.cuda.get_device_capability(device) >= BFLOAT16 else torch.float32
    ones = torch.ones(256, 256, dtype=dtype, device=device)
    wrong = int((ones @ ones != 256).sum())
    if wrong:
        raise RuntimeError(f"{wrong} of {256 * 256} numbers of a matrix product are wrong")


def _convolve(device: torch.device) -> None:
    """A small convolution forward and backward, as in the perceptual loss."""
    image = torch.ones(1, 8, 16, 16, device=device, requires_grad=True)
    kernel = torch.ones(8, 8, 3, 3, device=device)
    torch.nn.functional.conv2d(image, kernel, padding=1).sum().backward()
    torch.cuda.synchronize(device)


def _architectures(device: torch.device) -> str:
    built, (major, minor) = torch.cuda.get_arch_list(), torch.cuda.get_device_capability(device)
    if any(name.removeprefix("sm_").removeprefix("compute_").rstrip("af") == f"{major}{minor}" for name in built):
        return ""
    return f"; this PyTorch was built for {', '.join(built)}, the GPU has {major}.{minor}"
