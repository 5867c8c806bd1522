"""Flask-WTF: what changes something needs the page's CSRF token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect, generate_csrf, validate_csrf
from wtforms import ValidationError

from flask_chunked import ChunkedUploadBlueprint, Upload, create_tables

db = SQLAlchemy()
csrf = CSRFProtect()


class Uploads(ChunkedUploadBlueprint):
    """Checks the header ``X-CSRFToken``; Flask-WTF would look into the chunk."""

    def authorize(self, action: str, upload: Upload | None) -> bool:
        if action in ("read", "list", "download"):
            return True
        try:
            validate_csrf(request.headers.get("X-CSRFToken"))
        except ValidationError:
            return False
        return True


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.from_mapping(config, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True)
    db.init_app(app)
    csrf.init_app(app)
    uploads = Uploads("uploads", __name__)
    app.register_blueprint(uploads, url_prefix="/uploads")
    csrf.exempt(uploads)
    create_tables(app)

    @app.get("/")
    def page() -> str:
        return f'<meta name="csrf-token" content="{generate_csrf()}">'

    return app
