"""Connections between the processes of a run, which break at once when a process ends.

Every process is connected to the first one, which tells the others. NCCL gives no such notice: a process that waits
inside NCCL for a process that has ended may wait for ever, or until PyTorch aborts it. A process that is only stopped
or busy keeps its connections.
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

_MESSAGE = struct.Struct("!i")
_GOODBYE = -1  # all other messages are ranks: first the sender's own, later that of a lost process
_CONNECT = 30.0  # seconds for all processes to connect
_RECEIVE = 5.0  # seconds for a message that has begun to arrive
_POLL = 0.5  # seconds between checks for the end
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds and probes. A machine without power closes no connection, so it is probed after 20 seconds of silence."""


class Lifeline:
    """Calls ``lost`` when a process of the run ends without a goodbye. All processes create it together.

    Args:
        process: this process, one of several.
        lost: receives the rank of the first process that ended. It is called at most once, from another thread.

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
        # Loading processes are forks of this one. Their copies would keep the connections open.
        os.register_at_fork(after_in_child=partial(_close_copy, weakref.ref(self)))
        selector = selectors.DefaultSelector()
        for rank, connection in self._peers.items():  # here, because ``close`` may run before the thread does
            selector.register(connection, selectors.EVENT_READ, rank)
        threading.Thread(target=self._listen, args=(selector,), name="lifeline", daemon=True).start()

    def say_goodbye(self) -> None:
        """Tell the others that this process will end as planned. From now on it ignores their ends as well."""
        self._leaving = True  # processes that receive it close their connections before all others have received it
        self._send_to_all(_GOODBYE)
        self._over.set()

    def close(self) -> None:
        """Close the connections. The others treat this as the end of this process."""
        self._over.set()
        for connection in self._peers.values():
            connection.close()

    def _listen(self, selector: selectors.BaseSelector) -> None:
        with selector:
            while selector.get_map() and not self._over.is_set():
                for key, _ in selector.select(timeout=_POLL):
                    message = _receive(self._peers[key.data])
                    selector.unregister(key.fileobj)
                    if message != _GOODBYE and not self._leaving:
                        self._report_loss(key.data if message is None else message)
                        return
        self.close()

    def _report_loss(self, rank: int) -> None:
        self._send_to_all(rank)
        if not self._over.is_set():
            self._lost(rank)

    def _send_to_all(self, message: int) -> None:
        for connection in self._peers.values():
            with suppress(OSError):
                connection.sendall(_MESSAGE.pack(message))


def _open_port() -> socket.socket:
    if socket.has_dualstack_ipv6():
        server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        server = socket.create_server(("", 0))
    server.settimeout(_CONNECT)
    return server


def _accept(server: socket.socket, world_size: int) -> dict[int, socket.socket]:
    """The connections of ranks 1 and up. Connections from anything else are closed."""
    peers: dict[int, socket.socket] = {}
    end = time.monotonic() + _CONNECT
    while len(peers) < world_size - 1:
        if time.monotonic() > end:
            raise TimeoutError(f"only {len(peers)} of {world_size - 1} other processes have connected")
        connection, _ = server.accept()
        _prepare(connection)
        rank = _receive(connection)
        if rank is None or not 0 < rank < world_size or rank in peers:
            connection.close()
        else:
            peers[rank] = connection
    return peers


def _connect(port: int, rank: int) -> socket.socket:
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    connection = socket.create_connection((host, port), timeout=_CONNECT)
    _prepare(connection)
    connection.sendall(_MESSAGE.pack(rank))
    return connection


def _prepare(connection: socket.socket) -> None:
    connection.settimeout(_RECEIVE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _receive(connection: socket.socket) -> int | None:
    """The next message; None if the connection is broken."""
    received = b""
    try:
        while len(received) < _MESSAGE.size:
            more = connection.recv(_MESSAGE.size - len(received))
            if not more:
                return None
            received += more
    except OSError:
        return None
    return int(_MESSAGE.unpack(received)[0])


def _close_copy(lifeline: weakref.ref[Lifeline]) -> None:
    if (copy := lifeline()) is not None:
        copy.close()
