"""``torch.compile`` of the blocks that a model repeats."""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from openrayzer.interfaces import InputError
from openrayzer.layers.stack import Stack, call_block

COMPILERS = ("g++", "clang++", "c++")


def compile_blocks(model: nn.Module, *, stage: int) -> None:
    """Have every block of every stack compiled when it is first called; names and values of weights stay.

    Blocks of one kind share what was compiled. Another number of views compiles once more, and from then on for any.

    Args:
        model: whose stacks.
        stage: of ZeRO.

    Raises:
        InputError: nothing can be compiled here.
    """
    if stage == 3:
        raise InputError("train.compile does not go with ZeRO stage 3, which gathers weights when a layer is called")
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in names):
        raise InputError(f"train.compile needs a C++ compiler, and none is found: looked for {', '.join(names)}")
    compiled = torch.compile(call_block)
    for module in model.modules():
        if isinstance(module, Stack):
            module.call = compiled


def uncompiled(compiled: bool) -> AbstractContextManager[Any]:
    """While evaluating or watched, when shapes are others and hooks are to be called, compiled blocks run as written.

    Args:
        compiled: whether there are any; else nothing is imported or done.
    """
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
