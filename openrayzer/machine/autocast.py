"""Autocast to a dtype, or to none."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast_to(device: str, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Autocast to ``dtype`` on a type of device, e.g. "cuda"; no autocast if ``dtype`` is None."""
    return nullcontext() if dtype is None else torch.autocast(device, dtype=dtype)
