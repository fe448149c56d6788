"""Ending a process at once, and recognising that another process of the run has ended."""

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
"""Parts of the messages of torch, gloo and NCCL when another process does not answer."""


def leave_now(code: int, *, leave: Callable[[int], object] = os._exit) -> None:
    """End this process without Python's cleanup, which could wait for lost processes. Log files are flushed first."""
    in_time(_flush)
    leave(code)


def in_time(function: Callable[..., object], *arguments: Any) -> None:
    """Call ``function``, but wait for at most 20 seconds: the disk that it writes to may hang."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    thread.join(_MOMENT)


def lost_process(error: BaseException) -> str:
    """A message for the user if ``error`` means that another process has ended; empty otherwise."""
    message = str(error)
    known = isinstance(error, RuntimeError) and any(words in message for words in _GONE)
    if not (known or isinstance(error, dist.DistError)):
        return ""
    return missing_process(message.partition("\n")[0])


def missing_process(why: str) -> str:
    """The message for the user after another process of the run has ended.

    Args:
        why: the observation, in a few words.
    """
    return (
        f"another process of this run has ended or does not answer ({why}). Look for its own error message "
        "above or in the log of its machine. If it left none, it was killed: by lack of memory, a fault, a person. "
        "The checkpoints are untouched: the same command goes on from the last one"
    )


def _flush() -> None:
    for handler in logging.getLogger("openrayzer").handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
