"""Runs of two ranks that tests start, watch, kill and wait for."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launching import clean_environment

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
EXPERIMENT = HERE / "tiny.json"
TIMEOUT = 180.0
"""Longest time of a run in seconds; a shared machine can be slow."""


class ForkServer:
    """Ranks of ``tools/train.py``, forked from a process that has imported everything; see fork_server.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = clean_environment() | {"DS_ACCELERATOR": "cpu"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fork_server.py")], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._read() == "ready"

    def start(self, *argv: str, log: Path, world_size: int = 2) -> "Run":
        """A run of ``world_size`` ranks, with ``tools/train.py``'s arguments; two ranks seem to be one machine."""
        port, pids = free_port(), []
        for rank in range(world_size):
            env = {
                "RANK": str(rank), "LOCAL_RANK": str(rank % 2), "WORLD_SIZE": str(world_size),
                "LOCAL_SIZE": str(min(world_size, 2)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
            request = {"argv": list(argv), "env": env, "log": str(log), "cwd": str(self.folder)}
            pids.append(self._ask(request))
        return Run(self, pids, log)

    def poll(self, pid: int) -> int | None:
        """The exit code of a rank, negative for a signal; None while it lives."""
        return self._ask({"poll": pid})

    def stop(self) -> None:
        """End the server after its ranks have ended."""
        self._process.communicate(timeout=TIMEOUT)

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@dataclass
class Run:
    """Ranks of one run; ``codes`` holds the exit codes of ended ranks."""

    server: ForkServer
    pids: list[int]
    log: Path
    codes: dict[int, int] = field(default_factory=dict)

    def living(self) -> list[int]:
        """Ranks that have not ended."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes and (code := self.server.poll(pid)) is not None:
                self.codes[rank] = code
        return [rank for rank in range(len(self.pids)) if rank not in self.codes]

    def send(self, number: signal.Signals, *ranks: int) -> None:
        """Send a signal to some ranks, or to all."""
        for rank in ranks or range(len(self.pids)):
            if rank not in self.codes:
                with suppress(ProcessLookupError):
                    os.kill(self.pids[rank], number)

    def wait(self, seconds: float = TIMEOUT) -> tuple[int, ...]:
        """The exit codes of all ranks, after they have ended."""
        end = time.monotonic() + seconds
        while self.living():
            if time.monotonic() > end:
                left = self.living()
                self.send(signal.SIGKILL)
                raise AssertionError(f"ranks {left} still run after {seconds} s:\n{self.output()}")
            time.sleep(0.02)
        return tuple(self.codes[rank] for rank in range(len(self.pids)))

    def wait_as_launchers_do(self, *, alone: float) -> tuple[int, ...]:
        """The exit codes. Ranks get SIGTERM if they still run ``alone`` seconds after another rank has failed."""
        begin = time.monotonic()
        while self.living() and time.monotonic() < begin + TIMEOUT:
            if any(self.codes.values()) and time.monotonic() > begin + alone:
                self.send(signal.SIGTERM)
                break
            time.sleep(0.02)
        return self.wait()

    def end(self) -> None:
        """Kill the ranks that still run."""
        if self.living():
            self.send(signal.SIGKILL)
            self.wait()

    def output(self) -> str:
        """The output of all ranks."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


@contextmanager
def fork_server(folder: Path) -> Iterator[ForkServer]:
    """A server for the length of a ``with`` block."""
    server = ForkServer(folder)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Any, *, seconds: float = TIMEOUT, what: str = "it") -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} never came"
        time.sleep(0.02)
