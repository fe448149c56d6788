"""The operators of xformers: loading them, explaining failures, and a custom operator for ``torch.compile``."""

import logging
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


def failure_to_load() -> str:
    """The reason why the operators of xformers do not load, and the command that fixes it; empty if they load.

    The import of the package succeeds without its operators, but then every call fails.
    """
    return broken() if find_spec("xformers") else "xformers is not installed: pip install xformers"


@cache
def broken() -> str:
    """Like ``failure_to_load`` for an installed xformers; empty if xformers is not installed."""
    if find_spec("xformers") is None:
        return ""
    log = logging.getLogger("xformers")
    before = log.level
    log.setLevel(logging.ERROR)  # the remedy in xformers' own warning does not help
    try:
        library = import_module("xformers._cpp_lib")
    except Exception as error:  # external code may raise any exception
        return f"it cannot be imported: {type(error).__name__}: {error}"
    finally:
        log.setLevel(before)
    failure = getattr(library, "_cpp_library_load_exception", None)
    return "" if failure is None else f"its operators did not load: {advice(_without_frames(failure))}"


def _without_frames(failure: BaseException) -> BaseException:
    """The exception without tracebacks. xformers stores it forever, and its frames would keep tensors in memory."""
    one: BaseException | None = failure
    while one is not None:
        one.__traceback__, one = None, one.__cause__ or one.__context__
    return failure


def advice(failure: BaseException) -> str:
    """The root cause of a failure, and the command that fixes it."""
    cause = failure
    while cause.__cause__ is not None:
        cause = cause.__cause__
    why = str(cause).partition("\n")[0]
    if runtime := re.search(r"libcudart\.so\.(\d+)", why):
        return f"{why}: pip install nvidia-cuda-runtime-cu{runtime[1]}"
    built_for = getattr(getattr(failure, "build_info", None), "torch_version", "another PyTorch")
    return f"{why} (built for {built_for}, this is {torch.__version__}): pip install --upgrade xformers"


@cache
def loaded() -> Any:
    """The module xformers.ops. The first call imports it, which takes seconds."""
    return import_module("xformers.ops")


@torch.library.custom_op("openrayzer::xformers_forward", mutates_args=())
def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Attention (b, n, heads, e), and the log-sum-exp of the scores (b, heads, n) in float32.

    A custom operator does not break the graph of ``torch.compile``; xformers' own function would break it.
    """
    out, lse = loaded().fmha.memory_efficient_attention_forward_requires_grad(query, key, value)
    return out.contiguous(), lse[..., : query.shape[1]].contiguous()  # some operators pad lse


@forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    b, n, heads, _ = query.shape
    return query.new_empty(query.shape), query.new_empty((b, heads, n), dtype=torch.float32)


@torch.library.custom_op("openrayzer::xformers_backward", mutates_args=())
def backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    fmha = loaded().fmha
    gradients = fmha.memory_efficient_attention_backward(gradient.contiguous(), out, lse, query, key, value)
    of_query, of_key, of_value = (x.contiguous() for x in gradients)
    return of_query, of_key, of_value


@backward.register_fake
def _(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return backward(gradient, *ctx.saved_tensors)


forward.register_autograd(_differentiate, setup_context=_save)
