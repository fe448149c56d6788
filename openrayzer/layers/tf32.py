"""Switches for TF32. In TF32 a GPU rounds the factors of float32 products to 10 bits.

Only this file sets PyTorch's flags for TF32. The flags hold for the whole process. By default they allow TF32 in
convolutions and forbid it in matrix products. A kernel reads them when it starts, so flags that are set around a
forward pass have no effect on its backward pass.

PyTorch has an older and a newer interface for the flags, and this file uses the older one. ``torch.compile`` up to
PyTorch 2.14 reads the older one and fails after a write to the newer one
(https://github.com/pytorch/pytorch/issues/166387).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Forbid TF32 in matrix products and convolutions within this ``with`` block."""
    with _flags(products=False, convolutions=False):
        yield


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products within this ``with`` block, and forbid it in convolutions."""
    with _flags(products=allowed, convolutions=False):
        yield


@contextmanager
def _flags(*, products: bool, convolutions: bool) -> Iterator[None]:
    before = _read()
    _write(products, convolutions)
    try:
        yield
    finally:
        _write(*before)


def _read() -> tuple[bool, bool]:
    """Whether products and convolutions may use TF32. The newer interface can read values of the older one."""
    backends = torch.backends
    return backends.cuda.matmul.fp32_precision == "tf32", backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]


def _write(products: bool, convolutions: bool) -> None:
    if (products, convolutions) == _read():
        return
    with warnings.catch_warnings():
        # PyTorch 2.9 and 2.10 warn here that there is a newer interface; 2.14 does not.
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        torch.backends.cuda.matmul.allow_tf32 = products
        torch.backends.cudnn.allow_tf32 = convolutions
