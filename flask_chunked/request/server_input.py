"""The body that a WSGI server passes: whose object it is, and what was read from it."""

from __future__ import annotations

import inspect
import io
import socket
import sys
from typing import Any

#: Where the environ holds the stream that took the place of the server's own.
SHARED_STREAM = "flask_chunked.stream"


def server_input(environ: dict[str, Any]) -> Any:
    """The body as the server, or a middleware of the application, passes it."""
    shared = environ.get(SHARED_STREAM)
    found = environ["wsgi.input"]
    return shared.server_input if found is shared else found


def is_gunicorn(body: Any, reader: str) -> bool:
    """True for gunicorn's own body with that reader; False for wrappers of it."""
    module = sys.modules.get("gunicorn.http.body")
    if module is None or type(body) is not module.Body:
        return False
    return type(body.reader) is getattr(module, reader)


def is_werkzeug(body: Any, connection: socket.socket) -> bool:
    """True for the development server's own body; False for wrappers of it."""
    if type(body) is not io.BufferedReader or type(body.raw) is not socket.SocketIO:
        return False
    return body.fileno() == connection.fileno()


def bytes_taken(body: Any, length: int | None) -> int:
    """Bytes that were read from a server's stream; 0 also if it cannot tell.

    :param length: of the body in bytes; ``None``: chunked, and any number stands for
        some bytes.
    """
    try:
        is_cheroot = type(body).__module__.partition(".")[0] == "cheroot"
        if length is None:
            if is_cheroot:
                return int(body.bytes_read)
            if not is_gunicorn(body, "ChunkedReader"):
                return 0
            parser = body.reader.parser
            is_new = inspect.isgenerator(parser) and (
                inspect.getgeneratorstate(parser) == inspect.GEN_CREATED
            )
            return int(not is_new)
        if is_gunicorn(body, "LengthReader"):
            return int(length - body.reader.length - body.buf.tell())
        if is_cheroot:
            return int(length - body.remaining)
        if body.seekable():
            # waitress, and test clients. What is left is measured, since a body may
            # begin at any position of its file.
            position = body.tell()
            left: int = body.seek(0, io.SEEK_END) - body.seek(position)
            return max(0, min(int(position), length - left))
    except (AttributeError, OSError, TypeError, ValueError):
        # Another stream, or another version of a server.
        return 0
    return 0
