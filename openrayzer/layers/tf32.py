"""TF32, in which a GPU rounds the factors of float32 products to 10 bits: the only file that sets flags for it.

PyTorch's default is TF32 for convolutions and not for matrix products. Its flags are of the whole process and are read
when a kernel starts, so what holds around a forward pass need not hold for its backward pass, which runs later.

The older of PyTorch's two interfaces is used. PyTorch up to 2.14 reads it where it compiles, and raises an error there
if the newer one was written to (https://github.com/pytorch/pytorch/issues/166387).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Float32 is float32: neither products nor convolutions use TF32 while this ``with`` block runs."""
    with _flags(products=False, convolutions=False):
        yield


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Matrix products of float32 numbers may use TF32, or not, while this ``with`` block runs; convolutions do not."""
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
    """Of products and of convolutions; the newer interface reads what either has written."""
    backends = torch.backends
    return backends.cuda.matmul.fp32_precision == "tf32", backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]


def _write(products: bool, convolutions: bool) -> None:
    if (products, convolutions) == _read():
        return
    with warnings.catch_warnings():
        # PyTorch 2.9 and 2.10 announce the newer interface, and 2.14 no longer does.
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        torch.backends.cuda.matmul.allow_tf32 = products
        torch.backends.cudnn.allow_tf32 = convolutions
