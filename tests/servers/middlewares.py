"""WSGI middlewares that read the bodies of requests, as request logs do."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

from tests import looks

Start = Callable[..., Any]


class Tee:
    """Counts what the application reads."""

    def __init__(self, stream: Any) -> None:
        self.seen = 0
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.seen += len(data)
        return data


class ReadingMiddleware:
    """Does what the header ``X-Middleware`` says: tee, reread or peek."""

    def __init__(self, app: Callable[[dict[str, Any], Start], Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        kind = environ.get("HTTP_X_MIDDLEWARE")
        if kind == "peek":
            environ["wsgi.input"].read(5)
        elif kind == "reread":
            length = environ.get("CONTENT_LENGTH")
            data = environ["wsgi.input"].read(
                *([] if length is None else [int(length)])
            )
            environ["wsgi.input"] = io.BytesIO(data)
        elif kind == "tee":
            environ["wsgi.input"] = tee = Tee(environ["wsgi.input"])

            def start_with_count(status: str, headers: list[Any], *rest: Any) -> Any:
                return start(status, [*headers, ("X-Tee", str(tee.seen))], *rest)

            return self._app(environ, start_with_count)
        return self._app(environ, start)


def create_app() -> Flask:
    """The application that looks, in such a middleware."""
    app = looks.create_app()
    app.wsgi_app = ReadingMiddleware(app.wsgi_app)  # type: ignore[method-assign,assignment]
    return app
