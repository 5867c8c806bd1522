"""Flask-Security: users by session or by authentication token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_security import (
    Security,
    SQLAlchemyUserDatastore,
    current_user,
    hash_password,
)
from flask_security.models import fsqla_v3 as fsqla
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadMixin

db = SQLAlchemy()
fsqla.FsModels.set_db_info(db)


class Role(db.Model, fsqla.FsRoleMixin):
    """A role of Flask-Security."""


class User(db.Model, fsqla.FsUserMixin):
    """A user of Flask-Security."""


class Video(ChunkedUploadMixin, db.Model):
    user: Mapped[int] = mapped_column(ForeignKey("user.id"))


class Uploads(ChunkedUploadBlueprint):
    """The owner is the user's key: what ``get_id()`` returns may change."""

    model = Video

    def get_user_id(self) -> object:
        return current_user.id if current_user.is_authenticated else None


def create_app(config: Mapping[str, Any]) -> Flask:
    """The application, with the user ann@example.org."""
    app = Flask(__name__)
    app.config.from_mapping(config, SECURITY_PASSWORD_SALT="salt")
    db.init_app(app)
    Security(app, users := SQLAlchemyUserDatastore(db, User, Role))
    app.register_blueprint(Uploads("uploads", __name__), url_prefix="/uploads")
    with app.app_context():
        db.create_all()
        users.create_user(email="ann@example.org", password=hash_password("secret99"))
        db.session.commit()
    return app
