"""What each host runs: the demo's page, with its bytes in a bucket that all share.

Which database, which bucket and which host this is come from the environment, so that
every host runs the same code.
"""

from __future__ import annotations

import os
import sys

from flask import Flask, Response, request

from examples import demo
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.s3 import S3Storage

#: Tells in each answer which host gave it.
SERVED_BY = "X-Served-By"


def bucket(settings: StorageSettings) -> S3Storage:
    """The storage: ``FLASK_CHUNKED_UPLOAD_STORAGE_CLASS`` names this function."""
    return S3Storage(
        settings,
        bucket=os.environ["BUCKET"],
        endpoint_url=os.environ["BUCKET_ENDPOINT"],
        region="us-east-1",
        path_style=True,
        spool=os.environ["SPOOL"],
    )


def create_app() -> Flask:
    """The demo as one host of several."""
    app = demo.create_app()
    host = os.environ["HOST_NAME"]

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers[SERVED_BY] = host
        if request.method != "GET" and request.path.startswith("/uploads"):
            asked = request.headers.get("Content-Range", "")
            words = (host, request.method, response.status_code, asked)
            print("  ", *words, file=sys.stderr, flush=True)
        return response

    return app
