"""Our side: an application that is configured by ``BENCH_*`` in the environment.

``gunicorn 'benchmarks.app:create_app()'``
"""

from __future__ import annotations

import json
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
    store = os.environ.pop("BENCH_S3", None)
    app = Flask("benchmarks", instance_path=f"{directory}/instance")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{directory}/uploads.db"
    app.config.from_prefixed_env("BENCH")  # BENCH_CHUNKED_UPLOAD_DURABLE=false, ...
    SQLAlchemy(app)
    checked = Checked("uploads", __name__)
    unchecked = Unchecked("unchecked", __name__)
    for blueprint in (checked, unchecked):
        if store is not None:
            blueprint.storage_class = "flask_chunked.storage.s3:S3Storage"
            blueprint.storage_options = json.loads(store)
        app.register_blueprint(blueprint, url_prefix=f"/{blueprint.name}")
    create_tables(app)
    return app
