"""``torch.compile`` of the blocks that a model repeats."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from openrayzer.interfaces import InputError
from openrayzer.layers.stack import Stack, call_block

COMPILERS = {"cpu": ("g++", "clang++", "c++"), "cuda": ("gcc", "clang", "cc")}
"""Compilers that ``torch.compile`` looks for: on a CPU it writes C++, on a GPU Triton builds its launchers in C."""
PAYS = 1.2
"""``"auto"`` compiles if the trial is at least this many times as fast when it is compiled."""
MOST_KINDS = 64
"""Largest number of kinds of blocks and shapes to compile; RayDer has more than PyTorch's default of 8."""
_CALLS = 10
"""Timed calls of the trial."""


def compiling(wanted: bool | Literal["auto"], *, stage: int, device: torch.device) -> str:
    """The reason why blocks are not compiled; empty if they are.

    Args:
        wanted: the setting ``train.compile``.
        stage: ZeRO stage.
        device: the device that trains the model.

    Raises:
        InputError: the setting is ``true``, but blocks cannot be compiled.
    """
    if not wanted:
        return "is false"
    if wanted == "auto" and device.type == "cpu":
        return "is off on a CPU, where the first step would take a minute longer and later ones gain little"
    reason = _hindrance(stage, device)
    if wanted == "auto":
        return reason or _loss(device)
    if reason:
        raise InputError(f"train.compile {reason}")
    return ""


def compile_blocks(model: nn.Module) -> None:
    """Have every block of every stack compiled when it is first called. Weights keep their names and values.

    Blocks of one kind share compiled code. A second number of views triggers one more compilation, which then serves
    any number of views. A block that is recomputed in the backward pass is compiled together with its recomputation.
    """
    import torch._dynamo.config

    torch._dynamo.config.recompile_limit = MOST_KINDS
    compiled = torch.compile(call_block)
    for module in model.modules():
        if isinstance(module, Stack):
            module.call = compiled


def uncompiled(compiled: bool) -> AbstractContextManager[Any]:
    """Run compiled blocks without their compiled code in a ``with`` block.

    Evaluations have other shapes, and statistics need module hooks.

    Args:
        compiled: whether the model has compiled blocks. If False, the ``with`` block does nothing.
    """
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _hindrance(stage: int, device: torch.device) -> str:
    """The reason why blocks cannot be compiled; empty if none is known."""
    if stage == 3:
        return "cannot be combined with ZeRO stage 3, which gathers weights when a layer is called"
    variable = "CXX" if device.type == "cpu" else "CC"
    names = [os.environ[variable]] if os.environ.get(variable) else COMPILERS[device.type]
    if not any(shutil.which(name) for name in names):
        language = "C++" if device.type == "cpu" else "C"
        return f"needs a {language} compiler, and none is found: looked for {', '.join(names)}"
    return ""


def _loss(device: torch.device) -> str:
    """The reason why compiling does not pay on this GPU, after a trial; empty if it pays."""
    try:
        plain, compiled = (_milliseconds(function, device) for function in (_elementwise, torch.compile(_elementwise)))
    except Exception as error:  # compilers and drivers may raise anything, and training goes on without them
        return f"fails in a trial: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if compiled * PAYS > plain:
        return f"does not pay in a trial: {compiled:.2f} ms compiled, {plain:.2f} ms as written"
    return ""


def _elementwise(tokens: Tensor, gain: Tensor) -> Tensor:
    """A norm, a rotation and a residual: roughly the elementwise work of a block between two matrix products."""
    values = tokens.float()
    values = values * torch.rsqrt(values.square().mean(dim=-1, keepdim=True) + 1e-6) * gain
    rotated = values * 0.6 + values.roll(values.shape[-1] // 2, dims=-1) * 0.8
    return tokens + rotated.to(tokens.dtype)


def _milliseconds(function: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> float:
    """Milliseconds of one forward and backward pass, after a first one that compiles."""
    tokens = torch.ones(8192, 768, dtype=torch.bfloat16, device=device, requires_grad=True)
    gain = torch.ones(768, device=device, requires_grad=True)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for number in range(_CALLS + 1):
        if number == 1:
            begin.record()
        torch.autograd.grad(function(tokens, gain).sum(), (tokens, gain))
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / _CALLS
