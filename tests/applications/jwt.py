"""Flask-JWT-Extended: an upload belongs to the token's identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    get_jwt_identity,
    verify_jwt_in_request,
)
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables

db = SQLAlchemy()
jwt = JWTManager()


class Uploads(ChunkedUploadBlueprint):
    """Every request needs a token; without one the extension answers."""

    def get_user_id(self) -> object:
        verify_jwt_in_request()
        return get_jwt_identity()


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.from_mapping(config)
    db.init_app(app)
    jwt.init_app(app)
    app.register_blueprint(Uploads("uploads", __name__), url_prefix="/uploads")
    create_tables(app)

    @app.post("/token/<name>")
    def log_in(name: str) -> str:
        return create_access_token(name)

    return app
