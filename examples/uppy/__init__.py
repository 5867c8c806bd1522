"""Uppy's Dashboard in front of the uploads, from npm's files: no CDN, no build.

``README.rst`` beside this file has the commands that start it.
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, render_template, send_from_directory
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables

HERE = Path(__file__).parent


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI="sqlite:///uppy.db",
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True,
        CHUNKED_UPLOAD_DOWNLOADS=True,  # the pictures of finished files are links
        UPPY_DIR=str(HERE / "node_modules" / "uppy" / "dist"),
    )
    app.config.from_prefixed_env()  # FLASK_UPPY_DIR=/srv/node_modules/uppy/dist, ...
    SQLAlchemy(app)
    uploads = ChunkedUploadBlueprint("uploads", __name__)
    app.register_blueprint(uploads, url_prefix="/uploads")
    create_tables(app)
    directory = Path(app.config["UPPY_DIR"]).resolve()

    @app.get("/")
    def page() -> tuple[str, int]:
        if not (directory / "uppy.min.mjs").is_file():
            return render_template("missing.html", directory=directory), 503
        return render_template("uppy.html"), 200

    @app.get("/uppy/<path:name>")
    def uppy(name: str) -> Response:
        return send_from_directory(directory, name)

    return app
