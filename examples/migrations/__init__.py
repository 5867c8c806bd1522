"""Tables made by Flask-Migrate (Alembic) instead of ``create_tables``.

``flask --app examples.migrations db upgrade`` makes or changes them; ``README.rst``
beside this file has the rest.
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint

HERE = Path(__file__).parent


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///migrated.db"
    app.config["CHUNKED_UPLOAD_ALLOW_ANONYMOUS"] = True
    app.config["CHUNKED_UPLOAD_DOWNLOADS"] = True
    # Where there is a limit for owners, there is the table chunked_upload_quota.
    app.config["CHUNKED_UPLOAD_MAX_OPEN_UPLOADS"] = 100
    app.config.from_prefixed_env()
    db = SQLAlchemy(app)
    uploads = ChunkedUploadBlueprint("uploads", __name__)
    if "BUCKET" in os.environ:
        # On S3 there is the table chunked_upload_part, too.
        uploads.storage_class = "flask_chunked.storage.s3:S3Storage"
        uploads.storage_options = {
            "bucket": os.environ["BUCKET"],
            "endpoint_url": os.environ.get("BUCKET_ENDPOINT"),
            "path_style": "BUCKET_ENDPOINT" in os.environ,
            "prefix": os.environ.get("BUCKET_PREFIX", ""),
            "region": os.environ.get("AWS_REGION", "us-east-1"),
        }
    app.register_blueprint(uploads, url_prefix="/uploads")
    # After the blueprint: registering it is what tells db of the tables.
    Migrate(app, db, directory=str(HERE / "versioned"), include_object=is_known)
    return app


def is_known(
    _item: object, name: str | None, kind: str, reflected: bool, _other: object
) -> bool:
    """Leave tables alone that other settings would want: Alembic would drop them."""
    optional = ("chunked_upload_quota", "chunked_upload_part")
    return not (kind == "table" and reflected and name in optional)
