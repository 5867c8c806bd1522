"""A site that looks after itself: what a refusal must be, and that nothing is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import event
from werkzeug.test import TestResponse

from flask_chunked.engine.records import Upload
from tests.apps import registered, rows
from tests.dialects.wire import CODES, DATA, begin, cut, md5
from tests.statements import before_each

#: Keys of an error's JSON; ``detail`` is always there.
KEYS = {"detail", "code", "reason", "errors", "expected_offset", "provided_offset"}

#: What would tell a stranger how we are built or where we are.
INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|sqlite|sqlalchemy|werkzeug|\b(SELECT|INSERT|UPDATE|"
    r"DELETE) |chunked_upload|\.staging|\.part\b|\.done\b|errno|Error\b(?! in request)",
    re.IGNORECASE,
)

#: A multipart form with the boundary "b".
FORM = "multipart/form-data; boundary=b"

#: The first header of a form's file part.
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"'
FIRST = {"Content-Range": "bytes 0-4/10"}
NEXT = {"Content-Range": "bytes 5-9/10"}


@dataclass(frozen=True)
class Picture:
    """All rows, and every file and directory below the root, as they are."""

    rows: tuple[Upload, ...]
    files: dict[str, bytes]


class Site:
    """An app, a client of it, and an upload of five of ten bytes to come back to."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client = app.test_client(use_cookies=False)
        self.root = Path(app.instance_path)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Remove whatever is there, and send the five bytes."""
        for row in rows(self.app):
            self.client.delete(f"/uploads/{row.id}")
        self.url = begin(self.client)
        self.before = self.picture()

    def picture(self) -> Picture:
        """What there is now."""
        files = {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }
        return Picture(tuple(rows(self.app)), files)

    def refuses(self, answer: TestResponse, detail: str, status: int = 400) -> None:
        """The answer is this refusal, shows nothing inside, and nothing is left."""
        assert answer.status_code == status, answer.data
        assert shown(answer, self.root)["detail"] == detail
        assert self.picture() == self.before


def shown(answer: TestResponse, root: Path) -> dict[str, Any]:
    """An error's JSON, which has the library's shape and shows nothing of the inside.

    :param root: a directory whose name would be a place on this machine.
    """
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.get_json()
    assert isinstance(body, dict) and body["detail"]
    assert set(body) <= KEYS
    # These words of HTTP are no class of ours; the code is public.
    text = answer.text.replace("Internal Server Error", "").replace(body["code"], "")
    assert body["code"] in CODES
    for whole in (text, str(answer.headers)):
        assert str(root) not in whole and str(root.parent) not in whole
    assert INSIDE.search(text) is None, text
    return body


def form_of(filename: str, data: bytes = DATA[:5]) -> bytes:
    """A form whose file part has this name, as browsers write it (UTF-8, bare)."""
    head = f'Content-Disposition: form-data; name="file"; filename="{filename}"'
    return f"--b\r\n{head}\r\n\r\n".encode() + data + b"\r\n--b--\r\n"


def send(site: Site, kind: str, body: bytes, **environ: Any) -> TestResponse:
    """A form of these very bytes, as a first or next chunk or as a whole file."""
    return site.client.open(
        site.url if kind == "next" else "/uploads/",
        method="POST" if kind == "whole" else "PUT",
        headers={"whole": {}, "first": FIRST, "next": NEXT}[kind],
        query_string={"md5": md5(DATA[:5])} if kind == "whole" else None,
        environ_overrides={
            **cut(body, announced=len(body)),
            "CONTENT_TYPE": FORM,
            **environ,
        },
    )


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """In the block, every statement that goes to the database, by whomever."""
    ours = registered(app).database
    with app.app_context():
        theirs = set(app.extensions["sqlalchemy"].engines.values()) - {ours.engine()}
    seen: list[str] = []

    def note(text: str) -> None:
        seen.append(" ".join(text.split()))

    def by_event(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        note(statement)

    for engine in theirs:
        event.listen(engine, "before_cursor_execute", by_event)
    try:
        with before_each(ours, note):
            yield seen
    finally:
        for engine in theirs:
            event.remove(engine, "before_cursor_execute", by_event)
