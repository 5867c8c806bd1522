"""The limit of anything that hashes with hashlib: receive, update, answer.

``python -m benchmarks.hashloop PORT``. Writes nothing.
"""

from __future__ import annotations

import hashlib
import re
import socket
import sys

BLOCK = 1024 * 1024


def serve(client: socket.socket) -> None:
    """Answer requests with the MD5 of their bodies until the client has gone."""
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    while True:
        received = b""
        while b"\r\n\r\n" not in received:
            more = client.recv(16 * 1024)
            if not more:
                return
            received += more
        head, _, early = received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        if length is None:
            return
        digest = hashlib.md5(early)
        left = int(length[1]) - len(early)
        while left:
            count = client.recv_into(view, min(left, BLOCK))
            if not count:
                return
            digest.update(view[:count])
            left -= count
        client.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n"
            + digest.hexdigest().encode()
        )


def main() -> None:
    """One connection at a time."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as door:
        while True:
            client, _ = door.accept()
            with client:
                serve(client)


if __name__ == "__main__":
    main()
