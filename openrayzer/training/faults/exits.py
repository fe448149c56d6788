"""Ending a process at once, and the sentence for a run whose other processes have ended."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

_MOMENT = 20.0  # seconds
_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "Socket Timeout",
         "NCCL error", "ncclRemoteError", "was aborted", "Connection was likely closed")  # fmt: skip
"""What torch, gloo and NCCL say when another process does not answer any more."""


def leave_now(code: int, *, leave: Callable[[int], object] = os._exit) -> None:
    """End this process without goodbyes, which would wait for processes that are gone; what was logged is written."""
    in_time(_flush)
    leave(code)


def in_time(function: Callable[..., object], *arguments: Any) -> None:
    """Call ``function``, but do not wait for ever: the disk that it writes to may be what hangs."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    thread.join(_MOMENT)


def lost_process(error: BaseException) -> str:
    """Why another process must have ended, if that is what ``error`` means; else empty."""
    said = str(error)
    known = isinstance(error, RuntimeError) and any(words in said for words in _GONE)
    if not (known or isinstance(error, dist.DistError)):
        return ""
    return missing_process(said.partition("\n")[0])


def missing_process(why: str) -> str:
    """What to tell the user when another process of the run is gone.

    Args:
        why: the sign of it, in a few words.
    """
    return (
        f"another process of this run has ended or does not answer ({why}). Its own last words, if it had any, stand "
        "above or in the log of its machine; if not, it was killed: out of memory, a hardware fault, a person. The "
        "checkpoints are untouched: the same command goes on from the last one"
    )


def _flush() -> None:
    for handler in logging.getLogger("openrayzer").handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
