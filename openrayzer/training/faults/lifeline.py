"""A connection from every process to the first one: it breaks when a process ends, and the others hear of it at once.

NCCL gives no such notice. A process that waits inside NCCL for a process that has ended may wait for ever, or until
PyTorch aborts it. A process that is only stopped or busy keeps its connections.
"""

import os
import selectors
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from openrayzer.machine.distributed import Process

_WORD = struct.Struct("!i")
_GOODBYE = -1  # other words are ranks: first the sender's own, later that of the lost process
_MEETING = 30.0  # seconds for all processes to connect
_ANSWER = 5.0  # seconds for a word that has begun to arrive
_LOOK = 0.5  # seconds between checks for the end
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds and probes: a machine without power closes no connection, so its kernel is asked after 20 silent seconds."""


class Lifeline:
    """Calls ``lost`` with the rank of the first process that ends without a goodbye. All processes create it together.

    Args:
        process: this process, one of several.
        lost: called at most once, from another thread, with the rank.

    Raises:
        OSError: the first process cannot be reached.
    """

    def __init__(self, process: Process, *, lost: Callable[[int], object]) -> None:
        self._lost, self._over, self._leaving = lost, threading.Event(), False
        server = _open_port() if process.is_first else None
        port = process.by_first(lambda: server.getsockname()[1] if server else 0)
        if server is not None:
            with server:
                self._peers = _accept(server, process.world_size)
        else:
            self._peers = {0: _connect(port, process.rank)}
        # Loading processes are copies of this one; their copies of the connections would keep them open.
        os.register_at_fork(after_in_child=partial(_close_copy, weakref.ref(self)))
        threading.Thread(target=self._listen, name="lifeline", daemon=True).start()

    def say_goodbye(self) -> None:
        """Announce that this process is done, so that its end is no loss. From now on it misses nobody either."""
        self._leaving = True  # those who hear of it close their connections while the others are still told
        self._tell_all(_GOODBYE)
        self._over.set()

    def close(self) -> None:
        """Close the connections; to the others it is as if this process had ended."""
        self._over.set()
        for connection in self._peers.values():
            connection.close()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank, connection in self._peers.items():
                selector.register(connection, selectors.EVENT_READ, rank)
            while selector.get_map() and not self._over.is_set():
                for key, _ in selector.select(timeout=_LOOK):
                    word = _hear(self._peers[key.data])
                    selector.unregister(key.fileobj)
                    if word != _GOODBYE and not self._leaving:
                        self._miss(key.data if word is None else word)
                        return
        self.close()

    def _miss(self, rank: int) -> None:
        self._tell_all(rank)
        if not self._over.is_set():
            self._lost(rank)

    def _tell_all(self, word: int) -> None:
        for connection in self._peers.values():
            with suppress(OSError):
                connection.sendall(_WORD.pack(word))


def _open_port() -> socket.socket:
    if socket.has_dualstack_ipv6():
        server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        server = socket.create_server(("", 0))
    server.settimeout(_MEETING)
    return server


def _accept(server: socket.socket, world_size: int) -> dict[int, socket.socket]:
    """The connections of ranks 1 and up; other connections to the port are closed."""
    peers: dict[int, socket.socket] = {}
    end = time.monotonic() + _MEETING
    while len(peers) < world_size - 1:
        if time.monotonic() > end:
            raise TimeoutError(f"only {len(peers)} of {world_size - 1} other processes have connected")
        connection, _ = server.accept()
        _prepare(connection)
        rank = _hear(connection)
        if rank is None or not 0 < rank < world_size or rank in peers:
            connection.close()
        else:
            peers[rank] = connection
    return peers


def _connect(port: int, rank: int) -> socket.socket:
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    connection = socket.create_connection((host, port), timeout=_MEETING)
    _prepare(connection)
    connection.sendall(_WORD.pack(rank))
    return connection


def _prepare(connection: socket.socket) -> None:
    connection.settimeout(_ANSWER)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _hear(connection: socket.socket) -> int | None:
    """A word; None if the connection is broken."""
    said = b""
    try:
        while len(said) < _WORD.size:
            more = connection.recv(_WORD.size - len(said))
            if not more:
                return None
            said += more
    except OSError:
        return None
    return int(_WORD.unpack(said)[0])


def _close_copy(lifeline: weakref.ref[Lifeline]) -> None:
    if (copy := lifeline()) is not None:
        copy.close()
