"""The random generators of a process: seeding, capturing and restoring them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch, on the CPU and on GPUs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def capture() -> dict[str, Any]:
    """The state of every generator, as tensors and plain values, so that reading it from a file runs no code."""
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []  # the device of this process
    return {
        "python": [version, list(words), gauss],
        "numpy": {**numpy, "state": {**numpy["state"], "key": numpy["state"]["key"].tolist()}},
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


@contextmanager
def kept() -> Iterator[None]:
    """Restore every generator at the end of a ``with`` block, so that the block does not influence training."""
    before = capture()
    try:
        yield
    finally:
        restore(before)


def restore(state: dict[str, Any]) -> None:
    """Set every generator to a state from ``capture``."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = state["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])
