"""Our side: an application that is configured by ``BENCH_*`` in the environment.

``gunicorn 'benchmarks.app:create_app()'``
"""

from __future__ import annotations

import os

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables


class Checked(ChunkedUploadBlueprint):
    """The defaults, for a caller whom everybody is."""

    def get_user_id(self) -> str:
        return "somebody"


class Unchecked(Checked):
    """No digest of the whole file is wanted."""

    do_checksum_check = False


def create_app() -> Flask:
    """The blueprint twice, at /uploads with the default MD5 and at /unchecked."""
    directory = os.environ["BENCH_DIRECTORY"]
    app = Flask("benchmarks", instance_path=f"{directory}/instance")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{directory}/uploads.db"
    app.config.from_prefixed_env("BENCH")  # BENCH_CHUNKED_UPLOAD_DURABLE=false, ...
    SQLAlchemy(app)
    app.register_blueprint(Checked("uploads", __name__), url_prefix="/uploads")
    app.register_blueprint(Unchecked("unchecked", __name__), url_prefix="/unchecked")
    create_tables(app)
    return app
