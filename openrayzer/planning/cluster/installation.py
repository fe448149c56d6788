"""Versions of the software on this machine, and its GPUs."""

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("openrayzer", "torch", "triton", "deepspeed", "xformers", "torchvision")
_DRIVER = Path("/proc/driver/nvidia/version")


def installation() -> dict[str, str]:
    """Versions of the software that training uses, and the GPUs: names and readable texts."""
    facts = {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES}
    facts |= {
        "torch": str(torch.__version__),
        "CUDA of torch": torch.version.cuda or "none, a CPU build",
        "driver": driver_version() or "none found",
        "cuDNN": dotted(torch.backends.cudnn.version()),
        "NCCL": nccl_version(),
    }
    return facts | {f"GPU {number}": describe(number) for number in range(torch.cuda.device_count())}


def describe(number: int) -> str:
    """Name, compute capability and memory of a GPU."""
    properties = torch.cuda.get_device_properties(number)
    memory = properties.total_memory / 2**30
    return f"{properties.name}, compute capability {properties.major}.{properties.minor}, {memory:.0f} GiB"


def package_version(package: str) -> str:
    """Version of a package, without importing it; "not installed" if it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def nccl_version() -> str:
    """Version of the NCCL in this PyTorch; "none" without it."""
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        return "none"
    return ".".join(map(str, torch.cuda.nccl.version()))


def dotted(number: int | None) -> str:
    """cuDNN's version in its usual form: 91002 is 9.10.2."""
    return "none" if not number else f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def driver_version() -> str:
    """Version of NVIDIA's driver, from nvidia-smi or the kernel module; empty if there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            answer = None
        if answer is not None and answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.split()[0]
    try:
        words = _DRIVER.read_text(encoding="utf-8").split("Kernel Module")[-1].split()
    except OSError:
        return ""
    return next((word for word in words if word[:1].isdigit()), "")
