"""A Flask application that speaks as much tus as the client needs, and stores nothing.

What no upload server in Flask can fall below.

``gunicorn 'benchmarks.floor:create_app()'``
"""

from __future__ import annotations

from flask import Flask, Response, request

_TUS = {"Tus-Resumable": "1.0.0"}


def create_app() -> Flask:
    """POST at /uploads/ and PATCH below it."""
    app = Flask("floor")

    @app.post("/uploads/")
    def create() -> Response:
        size = len(request.get_data())
        told = {"Location": "/uploads/one", "Upload-Offset": str(size)}
        return Response(status=201, headers={**_TUS, **told})

    @app.patch("/uploads/<name>")
    def append(name: str) -> Response:
        size = int(request.headers["Upload-Offset"]) + len(request.get_data())
        return Response(status=204, headers={**_TUS, "Upload-Offset": str(size)})

    return app
