"""How each kind of receiver is talked to: conversations without sockets.

A conversation yields requests and is sent their answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from benchmarks.client import ClientError, Request, Response, Slice, Source, path_of

Conversation = Generator[Request, Response, None]

_BOUNDARY = "benchmarks-boundary-5f0c2a"
_TUS = ("Tus-Resumable", "1.0.0")
_TUS_BODY = ("Content-Type", "application/offset+octet-stream")
_OCTETS = ("Content-Type", "application/octet-stream")
_FORM = ("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
_FIELDS = ("Content-Type", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Job:
    """One upload.

    :param prefix: path of the receiver's collection.
    :param length: of the file, in bytes.
    :param chunk: bytes of a request's content; 0: all in one.
    :param number: of the upload; no two of a receiver are the same.
    :param start: where in the source the file begins, in bytes.
    """

    source: Source
    prefix: str
    length: int
    chunk: int = 0
    number: int = 0
    start: int = 0

    @property
    def content(self) -> Slice:
        """All of the file."""
        return Slice(self.start, self.length)

    def pieces(self) -> Iterator[tuple[int, Slice]]:
        """Offset in the file and the slice of the source, chunk by chunk."""
        step = self.chunk or self.length
        for offset in range(0, self.length, step):
            length = min(step, self.length - offset)
            yield offset, Slice(self.start + offset, length)


#: Talks a job through.
Dialect = Callable[[Job], Conversation]


def expect(response: Response, *statuses: int) -> Response:
    """The answer, if it has one of these statuses.

    :raises ClientError: another one.
    """
    if response.status not in statuses:
        raise ClientError(f"{response.status}: {response.body[:300]!r}")
    return response


def tus(job: Job) -> Conversation:
    """tus 1.0.0: a creation, then one PATCH or one for each chunk."""
    length = ("Upload-Length", str(job.length))
    created = yield Request("POST", job.prefix, (_TUS, length), part="create")
    path = expect(created, 201).path("location")
    for offset, piece in job.pieces():
        headers = (_TUS, _TUS_BODY, ("Upload-Offset", str(offset)))
        answer = yield Request("PATCH", path, headers, content=piece)
        stored = expect(answer, 204).headers["upload-offset"]
        if stored != str(offset + piece.length):
            raise ClientError(f"stored {stored} of {offset + piece.length} bytes")


def tus_at_once(job: Job) -> Conversation:
    """tus 1.0.0: creation with upload, one request."""
    headers = (_TUS, _TUS_BODY, ("Upload-Length", str(job.length)))
    answer = yield Request("POST", job.prefix, headers, content=job.content)
    if expect(answer, 201).headers.get("upload-offset") != str(job.length):
        raise ClientError(f"not all stored: {answer.headers}")


def content_range(*, form: bool, digest: str | None) -> Dialect:
    """PUT with Content-Range, then POST to complete.

    :param form: chunks as multipart/form-data, else as bare bodies.
    :param digest: name of the checksum in the POST; ``None``: without one.
    """

    def talk(job: Job) -> Conversation:
        path = job.prefix if form else f"{job.prefix}?filename=f{job.number}.bin"
        wrap = _wrapped if form else _bare
        for offset, piece in job.pieces():
            last = offset + piece.length - 1
            told = ("Content-Range", f"bytes {offset}-{last}/{job.length}")
            answer = yield wrap(path, told, piece, job.number)
            state = json.loads(expect(answer, 200, 201).body)
            if state["offset"] != last + 1:
                raise ClientError(f"stored {state['offset']} of {last + 1} bytes")
            path = path_of(state["url"])
        if digest is None:
            body = b""
        else:
            value = job.source.digest(digest, job.content)
            body = f"{digest}={value}".encode()
        answer = yield Request(
            "POST", path, (_FIELDS,), before=body, part="finish", fresh=True
        )
        expect(answer, 200)

    return talk


def _bare(
    path: str, content_range: tuple[str, str], piece: Slice, number: int
) -> Request:
    return Request("PUT", path, (_OCTETS, content_range), content=piece)


def _wrapped(
    path: str, content_range: tuple[str, str], piece: Slice, number: int
) -> Request:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="filename"\r\n\r\n'
        f"f{number}.bin\r\n--{_BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="f{number}.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return Request(
        "PUT",
        path,
        (_FORM, content_range),
        before=head.encode(),
        content=piece,
        after=f"\r\n--{_BOUNDARY}--\r\n".encode(),
    )


def put(job: Job) -> Conversation:
    """One plain PUT: nginx and the sinks."""
    path = f"{job.prefix}f{job.number}.bin"
    answer = yield Request("PUT", path, (_OCTETS,), content=job.content)
    expect(answer, 200, 201, 204)


def put_hashed(job: Job) -> Conversation:
    """One plain PUT to a receiver that answers with the MD5."""
    answer = yield Request("PUT", "/", content=job.content)
    if expect(answer, 200).body.decode() != job.source.digest("md5", job.content):
        raise ClientError(f"wrong digest: {answer.body!r}")
