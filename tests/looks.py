"""An application that looks at the bodies of uploads, and what it may see.

A header of each request names the way and the moment. The application answers with what
it saw. Tests send every kind of body to it, and check that the upload is right or is
refused with nothing stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from flask import Flask, Response, g, request
from werkzeug.test import encode_multipart

from flask_chunked import ChunkedUploadBlueprint
from tests.apps import make_app

WAY, MOMENT, SEEN, USER = "X-Look", "X-Moment", "X-Seen", "X-User"
#: Bytes that a look takes where it takes some of them.
SOME = 16


def _first_of_each_file() -> dict[str, str]:
    return {name: file.read(3).hex() for name, file in request.files.items()}


#: Ways to look at a body; what each returns goes through JSON.
WAYS: dict[str, Callable[[], object]] = {
    "stream": lambda: request.stream.read(SOME).hex(),
    "get_data": lambda: request.get_data().hex(),
    "get_data without cache": lambda: request.get_data(cache=False).hex(),
    "data": lambda: request.data.hex(),
    "get_json": lambda: request.get_json(silent=True),
    "form": lambda: request.form.to_dict(),
    "files": _first_of_each_file,
    "values": lambda: request.values.to_dict(),
    "wsgi.input": lambda: request.environ["wsgi.input"].read(SOME).hex(),
    # What error trackers do.
    "all": lambda: [
        *(request.get_data().hex(), request.form.to_dict(), len(request.files)),
        request.get_json(silent=True),
    ],
}
#: Ways that take bytes which cannot be read again.
TAKING = ("stream", "get_data without cache", "wsgi.input")
#: The hooks, in the order in which an upload asks them.
HOOKS = ("get_user_id", "authorize", "validate", "inspect", "verify", "on_completion")
MOMENTS = ("before", *HOOKS, "after")


def _look(moment: str) -> None:
    if request.headers.get(MOMENT) == moment and not hasattr(g, "seen"):
        g.seen = WAYS[request.headers[WAY]]()


class Looking(ChunkedUploadBlueprint):
    """Looks in its hooks."""

    def get_user_id(self) -> object:
        _look("get_user_id")
        return request.headers.get(USER)

    def authorize(self, action: str, upload: Any) -> bool:
        _look("authorize")
        return True

    def validate(self, upload: Any) -> None:
        _look("validate")

    def inspect(self, upload: Any, head: bytes) -> None:
        _look("inspect")

    def verify(self, upload: Any) -> None:
        _look("verify")

    def on_completion(self, upload: Any) -> None:
        _look("on_completion")


def looking_app(tmp_path: Path, **config: Any) -> Flask:
    """The application."""
    config = {
        "TESTING": False,
        "CHUNKED_UPLOAD_DOWNLOADS": True,
        "CHUNKED_UPLOAD_DURABLE": False,
        **config,
    }
    app = make_app(tmp_path, blueprint_class=Looking, **config)

    @app.before_request
    def look_before() -> None:
        _look("before")

    @app.after_request
    def look_after(response: Response) -> Response:
        _look("after")
        if hasattr(g, "seen"):
            response.headers[SEEN] = json.dumps(g.seen)
        return response

    return app


def create_app() -> Flask:
    """The application for a server; its directory is in the environment."""
    settings = json.loads(os.environ["SERVED_SETTINGS"])
    return looking_app(Path(os.environ["SERVED_TMP"]), **settings)


# -- the client ------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An answer, whichever client received it."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The content as JSON."""
        return json.loads(self.content)


class Client(Protocol):
    """Sends requests to a server, or to the application itself."""

    def __call__(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> Answer:
        """Send one request."""


@dataclass(frozen=True)
class Sent:
    """One request with a body, and what is in it."""

    body: bytes
    kind: str
    form: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    json: object = None
    query: dict[str, str] = field(default_factory=dict)

    def sights(self, way: str) -> list[object]:
        """What a look sees of the untouched body, then what it sees afterwards."""
        is_form = bool(self.form or self.files)
        keeps = self.kind in ("application/json", "application/x-www-form-urlencoded")
        some, whole = self.body[:SOME].hex(), self.body.hex()
        data = "" if is_form else whole
        first = {name: content[:3].hex() for name, content in self.files.items()}
        later = whole if keeps else ""
        values = {**self.form, **self.query}
        table: dict[str, list[object]] = {
            "stream": [some, ""],
            "wsgi.input": [some, ""],
            "get_data": [whole, later],
            "get_data without cache": [whole, later],
            "data": [data, later],
            "get_json": [self.json, self.json],
            "form": [self.form, self.form],
            "files": [first, {}],
            "values": [values, values],
            "all": [
                [whole, self.form, len(self.files), self.json],
                [later, self.form, 0, self.json],
            ],
        }
        return table[way]


CONTENT = bytes(range(251)) * 21
MD5 = hashlib.md5(CONTENT).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}
WHOLE = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
_users = count()


def _form(fields: dict[str, str]) -> Sent:
    boundary, body = encode_multipart({})
    boundary = "----WebKitFormBoundary0123456789abcdef"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}'
        for name, text in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"'
    body = "\r\n".join([*parts, head, "", ""]).encode() + CONTENT
    body += f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    return Sent(body, kind, form=fields, files={"file": CONTENT})


@dataclass(frozen=True)
class Exchange:
    """An upload of which one request is looked at.

    :ivar begin: method, body and headers of a request that comes before, if any.
    """

    method: str
    sent: Sent
    headers: Mapping[str, str] = field(default_factory=dict)
    begin: tuple[str, bytes, Mapping[str, str]] | None = None
    chunked: bool = False


_PATCH = Sent(CONTENT, "application/offset+octet-stream")
_RAW = ("PUT", CONTENT, {**WHOLE, "Content-Type": "application/octet-stream"})
_NEW = ("POST", b"", {**TUS, "Upload-Length": str(len(CONTENT))})
_AT_0 = {**TUS, "Upload-Offset": "0"}
EXCHANGES: dict[str, Exchange] = {
    "tus PATCH": Exchange("PATCH", _PATCH, _AT_0, _NEW),
    "chunked PATCH": Exchange("PATCH", _PATCH, _AT_0, _NEW, chunked=True),
    "raw PUT": Exchange("PUT", Sent(CONTENT, "application/octet-stream"), WHOLE),
    "form PUT": Exchange("PUT", _form({"folder": "holidays"}), WHOLE),
    "form POST": Exchange("POST", _form({"folder": "holidays", "md5": MD5})),
    "JSON": Exchange(
        "POST",
        Sent(json.dumps({"md5": MD5}).encode(), "application/json", json={"md5": MD5}),
        begin=_RAW,
    ),
    "urlencoded": Exchange(
        "POST",
        Sent(
            f"md5={MD5}".encode(),
            "application/x-www-form-urlencoded",
            form={"md5": MD5},
        ),
        begin=_RAW,
    ),
}


def check(send: Client, name: str, way: str, moment: str) -> Answer:
    """Send the exchange with one look; the upload is right, or nothing was stored.

    :return: the answer to the request that was looked at.
    """
    exchange = EXCHANGES[name]
    sent = exchange.sent
    user = {USER: f"user-{next(_users)}"}
    path = "/uploads/"
    # A new user has no uploads.
    before: list[dict[str, Any]] = []
    if exchange.begin is not None:
        method, body, headers = exchange.begin
        begun = send(method, path, body, {**headers, **user})
        assert begun.status in (200, 201), begun.content
        path = _path_of(begun)
        before = _uploads(send, user)
    looking = {WAY: way, MOMENT: moment, "Content-Type": sent.kind}
    if exchange.chunked:
        looking["Transfer-Encoding"] = "chunked"
    answer = send(
        exchange.method, path, sent.body, {**exchange.headers, **looking, **user}
    )
    if answer.status == 500:
        # Each dialect has its own form of errors, and none is a page.
        assert b"Internal Server Error" in answer.content
        assert b"<" not in answer.content
        assert _uploads(send, user) == before, "a refusal stores nothing"
        return answer
    assert answer.status in (200, 201, 204), (answer.status, answer.content)
    if SEEN in answer.headers:
        seen = json.loads(answer.headers[SEEN])
        sights = sent.sights(way)
        expected = sights[:1] if moment == "before" else sights
        assert seen in (sights[1:] if moment == "after" else expected)
    (upload,) = _uploads(send, user)
    if upload["status"] != 2:
        url = _path(upload["url"])
        done = send(
            "POST",
            url,
            json.dumps({"md5": MD5}).encode(),
            {"Content-Type": "application/json", **user},
        )
        assert done.status == 200, done.content
        (upload,) = _uploads(send, user)
    assert upload["status"] == 2
    content = send("GET", _path(upload["file"]), b"", user).content
    assert content == CONTENT, "every byte is right"
    return answer


def _uploads(send: Client, user: dict[str, str]) -> list[dict[str, Any]]:
    answer = send("GET", "/uploads/?status=all", b"", user)
    assert answer.status == 200, answer.content
    found: list[dict[str, Any]] = answer.json
    return found


def _path_of(answer: Answer) -> str:
    location = answer.headers.get("Location")
    return location if location is not None else _path(answer.json["url"])


def _path(url: str) -> str:
    return "/uploads/" + url.partition("/uploads/")[2]


def looks() -> Iterator[tuple[str, str, str]]:
    """Every exchange, way and moment."""
    for name in EXCHANGES:
        for way in WAYS:
            for moment in MOMENTS:
                yield name, way, moment
