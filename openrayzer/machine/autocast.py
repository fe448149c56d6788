"""Computation in a lower precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast_to(device: str, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Autocast to ``dtype``, or nothing if that is None."""
    return nullcontext() if dtype is None else torch.autocast(device, dtype=dtype)
