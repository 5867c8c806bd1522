"""A network that fails: a proxy that cuts, stalls, slows down and loses answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 16 * 2**10


@dataclass(frozen=True)
class Fault:
    """What happens to one connection.

    :param how: ``fin``: the client's end is cut off politely, and answers still come;
        ``rst``: both ends are reset; ``stall``: nothing more is passed on, and nobody
        is told; ``vanish``: the client is reset, the server is never told (half-open);
        ``lose``: the request arrives, its answer does not; ``slow``: all arrives.
    :param after: bytes of the client that are passed on before it happens.
    :param rate: bytes per second that are passed on to the server; ``None``: all.
    """

    how: str
    after: int = 0
    rate: float | None = None


class Proxy:
    """Listens on a port of its own; each connection takes the next fault, if any.

    :param port: of the server.
    :ivar faults: to come; connections beyond them work.
    :ivar struck: how many of each kind did happen.
    """

    def __init__(self, port: int) -> None:
        self.faults: list[Fault] = []
        self.struck: Counter[str] = Counter()
        self._target = port
        self._open: set[socket.socket] = set()
        self._is_closed = False
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop; connections that are left are closed."""
        self._listener.close()
        with self._lock:
            self._is_closed = True
            left = list(self._open)
        for end in left:
            with contextlib.suppress(OSError):
                end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                return
            with self._lock:
                if self._is_closed:
                    client.close()
                    server.close()
                    return
                fault = self.faults.pop(0) if self.faults else None
                self._open |= {client, server}
            for work in (self._forward, self._backward):
                threading.Thread(
                    target=work, args=(client, server, fault), daemon=True
                ).start()

    def _forward(
        self, client: socket.socket, server: socket.socket, fault: Fault | None
    ) -> None:
        """From the client to the server, up to the fault."""
        passed = 0
        if fault is not None and fault.how == "slow":
            self._count("slow")
        with contextlib.suppress(OSError):
            while True:
                strikes = fault is not None and fault.how not in ("lose", "slow")
                limit = fault.after - passed if fault and strikes else BLOCK
                block = client.recv(min(BLOCK, limit)) if limit else b""
                if not block:
                    break
                server.sendall(block)
                passed += len(block)
                if fault is not None and fault.rate is not None:
                    time.sleep(len(block) / fault.rate)
            if fault is None or passed < fault.after or fault.how in ("lose", "slow"):
                server.shutdown(socket.SHUT_WR)
                return
            self._strike(client, server, fault)

    def _strike(
        self, client: socket.socket, server: socket.socket, fault: Fault
    ) -> None:
        self._count(fault.how)
        if fault.how == "fin":
            server.shutdown(socket.SHUT_WR)
        elif fault.how == "rst":
            _reset(server)
            _reset(client)
        elif fault.how == "vanish":
            _reset(client)

    def _count(self, how: str) -> None:
        with self._lock:
            self.struck[how] += 1

    def _backward(
        self, client: socket.socket, server: socket.socket, fault: Fault | None
    ) -> None:
        """From the server to the client."""
        with contextlib.suppress(OSError):
            while block := server.recv(BLOCK):
                if fault is not None and fault.how == "lose":
                    self._count("lose")
                    _reset(client)
                    return
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)


def _reset(end: socket.socket) -> None:
    """Close with RST, even where another thread waits for it."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RD)
    end.close()


@contextlib.contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """A proxy before a server, for the length of the block."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
