"""TF32, in which a GPU rounds the factors of float32 products to 10 bits: the only file that sets flags for it.

PyTorch's default is TF32 for convolutions and not for matrix products. Its flags hold for the whole process. A kernel
reads them when it starts, so flags around a forward pass do not reach the backward pass, which runs later.

This file uses the older of PyTorch's two interfaces. The compiler of PyTorch up to 2.14 reads it, and raises an error
if somebody has written to the newer one (https://github.com/pytorch/pytorch/issues/166387).
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
    """``allowed``: float32 matrix products may use TF32 while this ``with`` block runs. Convolutions never do in it."""
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
    """The flags of products and of convolutions. The newer interface also reads values written by the older one."""
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
