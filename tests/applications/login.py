"""Flask-Login: an upload belongs to the user of the session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_login import LoginManager, UserMixin, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadMixin

db = SQLAlchemy()
login = LoginManager()


class User(UserMixin, db.Model):
    """A user; a real one has a password."""

    id: Mapped[int] = mapped_column(primary_key=True)


class Video(ChunkedUploadMixin, db.Model):
    """An upload of a user."""

    user: Mapped[int] = mapped_column(ForeignKey("user.id"))


@login.user_loader
def load_user(user_id: str) -> User | None:
    """The user of a session."""
    return db.session.get(User, int(user_id))


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application."""
    app = Flask(__name__)
    app.config.from_mapping(config)
    db.init_app(app)
    login.init_app(app)
    uploads = ChunkedUploadBlueprint("uploads", __name__, model=Video)
    app.register_blueprint(uploads, url_prefix="/uploads")
    with app.app_context():
        db.create_all()

    @app.post("/login/<int:user_id>")
    def log_in(user_id: int) -> str:
        user = db.session.merge(User(id=user_id))
        db.session.commit()
        login_user(user)
        return "welcome"

    return app
