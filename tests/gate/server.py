"""The real server of a seed: an app whose hooks note what they are asked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import request
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.test import run_wsgi_app

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    Upload,
    check,
    chunk_received,
    delete_expired,
    deliver_pending,
    upload_completed,
    upload_created,
    upload_expired,
    upload_terminated,
    uploads,
)
from flask_chunked.models import ChunkedUploadMixin
from flask_chunked.schemas import ChunkedUploadSchema
from tests.apps import dispose, make_app, registered, rows, stop_clock
from tests.gate import rules as policy
from tests.gate.model import MOST
from tests.gate.requests import DENY, USER, Request
from tests.gate.rules import SHAPED, VERIFY_STATUS, Rules

SIGNALS = {
    "created": upload_created,
    "chunk_received": chunk_received,
    "completed": upload_completed,
    "terminated": upload_terminated,
    "expired": upload_expired,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Hooks(ChunkedUploadBlueprint):
    """Where the hooks of a seed's blueprint are taken from.

    :cvar asked: what was asked since somebody looked: hook, id or ``None``, arguments.
    """

    asked: list[tuple[object, ...]]
    deliveries: dict[object, int]

    def authorize(self, action: str, upload: Upload | None) -> bool:
        self.asked.append(("authorize", _id(upload), action))
        name = None if upload is None else upload.filename
        return policy.permits(action, name, request.headers.get(DENY, ""))

    def validate(self, upload: Upload) -> None:
        self.asked.append(("validate", _id(upload), upload.length))
        if policy.refuses_declared(upload.filename, upload.length):
            raise ChunkedUploadError("No: declared")

    def inspect(self, upload: Upload, head: bytes) -> None:
        self.asked.append(("inspect", _id(upload), bytes(head)))
        if policy.refuses_head(upload.filename, head):
            raise ChunkedUploadError("No: first bytes")

    def verify(self, upload: Any) -> None:
        content = self._content(upload)
        self.asked.append(("verify", _id(upload), content))
        if policy.refuses_content(content):
            raise ChunkedUploadError("No: content", status=VERIFY_STATUS)

    def deliver(self, upload: Any) -> None:
        self.asked.append(("deliver", _id(upload), self._content(upload)))
        attempt = self.deliveries[upload.id] = self.deliveries.get(upload.id, 0) + 1
        if policy.fails_to_deliver(upload.filename, attempt):
            raise OSError("the queue is away")

    def on_completion(self, upload: Any) -> Any:
        self.asked.append(("on_completion", _id(upload)))
        return SHAPED if policy.is_shaped(upload.filename) else None

    def _content(self, upload: Any) -> bytes:
        with self.open(upload) as reader:
            return reader.read()


def _id(upload: Any) -> str | None:
    return None if upload is None else str(upload.id)


class _TitledSchema(ChunkedUploadSchema):
    title = fields.String(required=True)


@cache
def titled_model() -> tuple[SQLAlchemy, type[Any]]:
    """A model with a column of the application's own, built once."""
    db = SQLAlchemy()

    class Titled(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        __tablename__ = "titled_upload"
        title: Mapped[str | None] = mapped_column(String(80))

    return db, Titled


class Server:
    """An app, its clock, and what its hooks and signals said.

    :param tmp: a directory of its own.
    """

    def __init__(self, tmp: Path, rules: Rules) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.told: list[tuple[object, ...]] = []
        body: dict[str, Any] = {
            "asked": self.asked,
            "deliveries": {},
            "_content": _Hooks._content,
            "get_user_id": lambda _: request.headers.get(USER),
            **{hook: vars(_Hooks)[hook] for hook in rules.hooks},
        }
        model: dict[str, Any] = {}
        if rules.titled:
            db, titled = titled_model()
            model = {"db": db, "model": titled}
            body["schema_class"] = _TitledSchema
        body["do_checksum_check"] = rules.checksums
        self.limits: dict[str, int | None] = {}
        if rules.moving:
            body |= {f"get_{key}": self._limit(key) for key in _limits(rules)}
            self.set_limits(rules)
        kind = type("Fuzzed", (ChunkedUploadBlueprint,), body)
        options: dict[str, Any] = {**model, **_config(rules)}
        self.app = make_app(tmp, blueprint_class=kind, **options)
        self._receivers = [
            (signal, self._receiver(name)) for name, signal in SIGNALS.items()
        ]
        for signal, receiver in self._receivers:
            signal.connect(receiver, sender=self.app)

    def close(self) -> None:
        """Let the app go."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver, sender=self.app)
        dispose(self.app)

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: object, upload: Upload) -> None:
            offset = upload.offset if name in ("chunk_received", "completed") else None
            self.told.append((name, str(upload.id), offset))

        return receive

    def _limit(self, name: str) -> Callable[[Any], int | None]:
        return lambda _: self.limits[name]

    def set_limits(self, rules: Rules) -> None:
        """From here on the hooks give these."""
        with self._listening():
            self.limits = _limits(rules)

    def set_clock(self, now: datetime) -> None:
        """Let the time stand still there."""
        stop_clock(self.app, now)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        self.asked.clear()
        self.told.clear()
        yield

    # -- what happens to it ------------------------------------------------------------

    def send(self, sent: Request) -> Reply:
        """A request over WSGI, without a client's own ideas."""
        payload = sent.payload
        environ = {
            **_ENVIRON,
            "REQUEST_METHOD": sent.method,
            "PATH_INFO": sent.path,
            "QUERY_STRING": urlencode(sent.query),
            "wsgi.input": io.BytesIO(payload),
            "wsgi.errors": io.StringIO(),
        }
        if sent.chunked:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
            environ["wsgi.input_terminated"] = True
        else:
            environ["CONTENT_LENGTH"] = str(len(payload) + sent.cut)
        for name, value in sent.sent_headers.items():
            key = name.upper().replace("-", "_")
            environ["CONTENT_TYPE" if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        with self._listening():
            answered, status, headers = run_wsgi_app(self.app, environ, buffered=True)
        return Reply(int(status[:3]), dict(headers), b"".join(answered))

    def delete_expired(self, *, keep_records: bool) -> list[str]:
        """The maintenance function."""
        with self.app.app_context(), self._listening():
            return [str(one.id) for one in delete_expired(keep_records=keep_records)]

    def deliver_pending(self) -> list[tuple[str, bool]]:
        """The maintenance function."""
        with self.app.app_context(), self._listening():
            return [(str(one.upload.id), one.delivered) for one in deliver_pending()]

    def check(self, *, repair: bool) -> list[object]:
        """The maintenance function."""
        with self.app.app_context(), self._listening():
            return list(check(repair=repair))

    # -- how it stands -----------------------------------------------------------------

    def rows(self) -> dict[str, Upload]:
        """All rows, by id."""
        return {str(row.id): row for row in rows(self.app)}

    @property
    def most(self) -> int:
        """Bytes that the storage takes at most."""
        return min(MOST, registered(self.app).storage.max_length() or MOST)

    @property
    def reads_unfinished(self) -> bool:
        """Can the storage read an upload that is not complete?"""
        return registered(self.app).storage.reads_unfinished

    def listed(self, *, partial: bool) -> set[str]:
        """Ids of what the Python API iterates over."""
        more: dict[str, Any] = {"partial": True} if partial else {}
        with self.app.app_context():
            return {str(one.id) for one in uploads(**more)}

    def content(self, row: Upload) -> bytes:
        """What is stored of an upload, up to its offset."""
        if not row.offset or row.blob is None:
            return b""
        with registered(self.app).storage.open(row.blob) as reader:
            return reader.read()

    def quotas(self) -> dict[str, tuple[int, int, int]]:
        """The table of quotas by owner's key: unfinished, their bytes, other bytes."""
        here = registered(self.app)
        if here.quotas is None:
            return {}
        q = here.quotas.table.c
        with self.app.app_context(), here.database.transaction() as connection:
            found = connection.execute(select(q.owner, q.uploads, q.size, q.stored))
            return {one.owner: (one.uploads, one.size, one.stored) for one in found}


_ENVIRON: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


def _limits(rules: Rules) -> dict[str, int | None]:
    """By the name of the attribute that holds it."""
    return {
        "max_bytes": rules.max_bytes,
        "max_open_uploads": rules.max_open,
        "max_total_bytes": rules.max_total,
        "max_stored_bytes": rules.max_stored,
    }


def _config(rules: Rules) -> dict[str, object]:
    keys: dict[str, timedelta | int | bool | None] = {
        "ALLOW_ANONYMOUS": rules.allow_anonymous,
        "DOWNLOADS": True,
        "DURABLE": False,
        "EXPIRATION_DELTA": rules.idle,
        "MAX_LIFETIME": rules.lifetime,
        "KEEP_PARTIALS": rules.keep_partials,
    }
    if not rules.moving:
        keys |= {key.upper(): value for key, value in _limits(rules).items()}
    return {f"CHUNKED_UPLOAD_{key}": value for key, value in keys.items()}
