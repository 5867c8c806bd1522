"""The demo: one page that uploads, pauses, loses its network and goes on.

``./run demo`` starts it; so does, in the project's directory,
``gunicorn --threads 8 'examples.demo:create_app()'``. Everything is kept below
``instance/`` of the project, or below the directory that ``INSTANCE`` names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask, Response, render_template, request
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadSchema,
    Upload,
    create_tables,
)

PROJECT = Path(__file__).resolve().parent.parent

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",  # the checksum is WebAssembly
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


class DemoSchema(ChunkedUploadSchema):
    """Beside the usual keys, what the page shows: size, checksum, last activity."""

    length = fields.Integer(dump_only=True)
    digest = fields.String(dump_only=True)
    last_activity_at = fields.DateTime(dump_only=True)


class DemoUploads(ChunkedUploadBlueprint):
    """Everybody who can open the page is the same user."""

    schema_class = DemoSchema

    def get_user_id(self) -> str:
        """A fixed name; a real application asks its login."""
        return "demo"

    def authorize(self, action: str, upload: Upload | None) -> bool:
        """Refuse what pages of other sites ask for: there is no login to protect it."""
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        return site in ("same-origin", "none")


def create_app() -> Flask:
    """The demo as a WSGI application."""
    instance = Path(os.environ.get("INSTANCE") or PROJECT / "instance").resolve()
    instance.mkdir(parents=True, exist_ok=True)
    app = Flask(
        __name__,
        instance_path=str(instance),
        template_folder="demo/templates",
        static_folder="demo/static",
        static_url_path="/assets",
    )
    app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{instance / 'demo.sqlite3'}",
        CHUNKED_UPLOAD_DOWNLOADS=True,
        CHUNKED_UPLOAD_MAX_BYTES="20GiB",
    )
    app.config.from_prefixed_env()
    SQLAlchemy().init_app(app)
    uploads = DemoUploads("uploads", __name__)
    app.register_blueprint(uploads, url_prefix="/uploads")
    app.add_url_rule("/", "page", lambda: page(uploads))
    app.after_request(add_security_headers)
    create_tables(app)
    return app


def page(uploads: ChunkedUploadBlueprint) -> str:
    """The page, with the limits that the server knows."""
    settings = uploads.registration.settings
    expiration = settings.expiration_delta
    limits: dict[str, Any] = {
        "checksum": settings.checksum if uploads.do_checksum_check else "",
        "max_bytes": uploads.get_max_bytes() or "",
        "expires_after": "" if expiration is None else int(expiration.total_seconds()),
    }
    return render_template("index.html", limits=limits)


def add_security_headers(response: Response) -> Response:
    """A strict policy for the page and its worker; downloads bring their own."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    return response


if __name__ == "__main__":
    create_app().run(port=8000, threaded=True)
