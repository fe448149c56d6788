"""All checks of this machine, in their order."""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from openrayzer.planning.cluster import gpus, working_libraries
from openrayzer.planning.cluster.findings import Finding


def check_machine(output: Path) -> list[Finding]:
    """Check Python, PyTorch, GPUs, libraries, memory and disk; without a GPU, only what needs none.

    Args:
        output: folder for runs.
    """
    with _quiet():  # the findings contain the warnings of attention
        return list(_findings(output))


def _findings(output: Path) -> Iterator[Finding]:
    yield Finding("python", "ok", platform.python_version())
    yield gpus.check_torch()
    yield gpus.check_driver()
    if torch.cuda.is_available():
        several = list(gpus.check_gpus())
        yield from several
        yield gpus.check_nccl()
        if not any(
            one.verdict == "FAILS" and one.what.startswith("GPU") for one in several
        ):  # otherwise all checks would fail
            device = torch.device("cuda", 0)
            yield from working_libraries.check_attention(device)
            yield from working_libraries.check_rasterisers(device)
            yield working_libraries.check_compiler(device)
            yield gpus.check_pinned_memory()
    yield working_libraries.check_xformers()
    yield working_libraries.check_deepspeed()
    yield gpus.check_shared_memory()
    yield gpus.check_disk(output)


@contextmanager
def _quiet() -> Iterator[None]:
    """Log errors only."""
    logger = logging.getLogger("openrayzer")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
