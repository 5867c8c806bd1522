"""Uploads as a test sees them: sent, begun or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from flask import Flask
from flask.testing import EnvironBuilder, FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from ..blueprint import ChunkedUploadBlueprint
from ..engine.records import Upload
from ..registration import Registration, registrations
from ..signals import upload_created
from .dialects import (
    REQUESTS,
    Caller,
    DialectName,
    File,
    Requests,
    UploadOptions,
    UploadRefused,
    WholeForm,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


def upload(
    client: FlaskClient, url: str, content: bytes, **options: Unpack[UploadOptions]
) -> SentUpload:
    """Upload a file and complete it.

    :param url: the blueprint's own URL, such as ``/uploads/``.
    :raises UploadRefused: an answer is an error or a redirect.
    """
    __tracebackhide__ = True
    file = File(content, **options)
    kind = WholeForm if file.is_one_form else REQUESTS[file.dialect]
    sent, requests = _start(client, url, file, len(content), kind)
    return sent._complete(requests)


def begin(
    client: FlaskClient,
    url: str,
    content: bytes,
    stop: int | None = None,
    **options: Unpack[UploadOptions],
) -> SentUpload:
    """Upload the first bytes of a file, and leave the rest for ``resume()``.

    :param stop: the number of bytes; default: half of them.
    :raises UploadRefused: an answer is an error or a redirect.
    :raises ValueError: nothing would be sent, or nothing would be left.
    """
    __tracebackhide__ = True
    stop = len(content) // 2 if stop is None else stop
    if not 0 < stop < len(content):
        raise ValueError(
            f"stop is {stop}; to leave a file of {len(content)} bytes unfinished, it "
            f"must be at least 1 and less than {len(content)}"
        )
    file = File(content, **options)
    return _start(client, url, file, stop, REQUESTS[file.dialect])[0]


def refusal(
    client: FlaskClient, url: str, content: bytes, **options: Unpack[UploadOptions]
) -> TestResponse:
    """Try to upload a file; the answer that refuses it.

    :raises AssertionError: the upload is complete.
    """
    __tracebackhide__ = True
    try:
        sent = upload(client, url, content, **options)
    except UploadRefused as refused:
        return refused.response
    raise AssertionError(f"the upload was accepted: {sent.json()}")


@dataclass(frozen=True, slots=True)
class SentUpload:
    """An upload that a test has sent, or has begun to send.

    :ivar id: its id, which is the primary key of its row.
    :ivar url: its URL for the test client.
    :ivar response: the answer to the last request that sent or completed it.
    """

    id: UUID
    url: str
    response: TestResponse
    _caller: Caller = field(repr=False)
    _file: File = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The upload's JSON, by GET."""
        __tracebackhide__ = True
        return cast(dict[str, Any], self._caller("GET", self.url).get_json())

    def offset(self) -> int:
        """The number of bytes that the server has, by HEAD."""
        __tracebackhide__ = True
        return int(self._caller("HEAD", self.url).headers["Upload-Offset"])

    def read(self) -> bytes:
        """The bytes of the finished file, from the storage.

        :raises BytesMissing: the application has moved the file away.
        """
        policy = cast(ChunkedUploadBlueprint, self._caller.here.policy)
        with self._caller.here.app.app_context(), policy.open_file(self.id) as file:
            return b"".join(iter(partial(file.read, 2**16), b""))

    def resume(self, dialect: DialectName | None = None) -> SentUpload:
        """Ask for the offset, send the rest and complete.

        :param dialect: of the requests to come; default: that of the ones before.
        :return: the upload with the last answer.
        """
        __tracebackhide__ = True
        file = replace(self._file, dialect=dialect or self._file.dialect)
        requests = REQUESTS[file.dialect](self._caller, file)
        sent = replace(self, _file=file)
        return sent._send(requests, self.offset(), len(file.content))._complete(
            requests
        )

    def delete(self) -> TestResponse:
        """Delete it, whether it is complete or not."""
        __tracebackhide__ = True
        return self._caller("DELETE", self.url)

    def seen_by(
        self, client: FlaskClient, headers: Mapping[str, str] | None = None
    ) -> SentUpload:
        """The same upload for another caller.

        :param client: the test client of, for instance, another user's session.
        :param headers: of its requests, in place of the first caller's.
        """
        caller = replace(self._caller, client=client, headers=headers or {})
        return replace(self, _caller=caller)

    def _send(self, requests: Requests, start: int, stop: int) -> SentUpload:
        __tracebackhide__ = True
        sent = self
        for span in requests.file.spans(start, stop):
            sent = replace(sent, response=requests.append(self.url, *span))
        return sent

    def _complete(self, requests: Requests) -> SentUpload:
        __tracebackhide__ = True
        response = requests.complete(self.url)
        return self if response is None else replace(self, response=response)


def _start(
    client: FlaskClient, url: str, file: File, stop: int, kind: type[Requests]
) -> tuple[SentUpload, Requests]:
    """Create an upload and send its first bytes."""
    __tracebackhide__ = True
    here = _blueprint_at(client.application, url)
    caller = Caller(client, here, file.headers)
    requests = kind(caller, file)
    created: list[UUID] = []

    def note(app: Flask, upload: Upload, **_: object) -> None:
        if upload.blueprint == here.name:
            created.append(upload.id)

    with upload_created.connected_to(note, sender=here.app):
        response, offset = requests.create(url, stop)
    if not created:
        # Something before the blueprint has answered.
        raise UploadRefused(response)
    sent = SentUpload(created[0], _url_of(url, created[0]), response, caller, file)
    return sent._send(requests, offset, stop), requests


def _blueprint_at(app: Flask, url: str) -> Registration:
    """The blueprint whose collection is at the URL.

    :raises LookupError: there is none.
    """
    request = app.request_class(EnvironBuilder(app, url).get_environ())
    adapter = app.create_url_adapter(request)
    known = registrations(app)
    try:
        endpoint = "" if adapter is None else adapter.match(method="POST")[0]
    except HTTPException:
        endpoint = ""
    name, _, kind = endpoint.rpartition(".")
    if name in known and kind == "collection":
        return known[name]
    rules = [str(r) for n in known for r in app.url_map.iter_rules(f"{n}.collection")]
    raise LookupError(
        f"no ChunkedUploadBlueprint receives uploads at {url!r}; the app has them at: "
        f"{', '.join(rules) or 'none'}"
    )


def _url_of(collection: str, upload_id: UUID) -> str:
    parts = urlsplit(collection)
    path = f"{parts.path.rstrip('/')}/{upload_id}"
    return urlunsplit(parts._replace(path=path, query=""))
