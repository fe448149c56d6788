"""Starts ranks of a training run quickly: everything is imported once, and each rank is a fork.

Requests are lines of JSON on stdin, answers lines of JSON on stdout. ``{"argv", "env", "log", "cwd"}`` starts
``tools/train.py`` and answers its process id; ``{"poll": pid}`` answers the exit code, negative for a signal, or null.
"""

import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path

TRAIN = Path(__file__).parents[3] / "tools" / "train.py"
MODULES = ("deepspeed", "openrayzer.composer", "openrayzer.training.run", "openrayzer.machine.distributed")


def preload() -> None:
    for name in MODULES:
        importlib.import_module(name)
    from openrayzer.interfaces import REGISTRIES

    assert all(len(registry) for registry in REGISTRIES)  # which imports all components


def serve() -> dict | None:
    """Answer requests. In a forked child, return the request that it must run."""
    answers = sys.stdout
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            done, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if done else None
        else:
            answer = os.fork()
            if answer == 0:
                return request
        print(json.dumps(answer), file=answers, flush=True)
    return None


def become(request: dict) -> None:
    """Run as ``python tools/train.py argv...``."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    sys.argv = [str(TRAIN), *request["argv"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_path(str(TRAIN), run_name="__main__")


if __name__ == "__main__":
    preload()
    asked = serve()
    if asked is not None:
        become(asked)
