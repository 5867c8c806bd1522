"""Draws requests: mostly sensible ones, at uploads that the model knows."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tests.dialects.tus import checksum, metadata
from tests.exchange import md5
from tests.gate.model import COMPLETE, FINAL, PARTIAL, UPLOADING, Model, Upload
from tests.gate.requests import (
    DENY,
    OCTETS,
    PREFIX,
    TUS_OCTETS,
    URLENCODED,
    USER,
    Form,
    Request,
)
from tests.gate.rules import BAD_END, BAD_HEAD, BAD_LENGTHS, OWNERS, draw_limits

SIZES = (0, 1, 20, 4095, 4096, 4097, 5000)
TUS = {"Tus-Resumable": "1.0.0"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"
_ACTIONS = ("append", "complete", "read", "download", "terminate", "delete")
_FLAGS = (
    *("novalidate", "noinspect", "late", "late", "shape", "shape"),
    *(f"no{action}" for action in _ACTIONS),
)


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that happens to the server and is no request."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}({told})"


@dataclass(frozen=True, slots=True)
class Step:
    """What comes next, and how much time passes before it."""

    wait: timedelta
    what: Request | Operation

    def __str__(self) -> str:
        return f"[+{self.wait}] {self.what}"


class Draw:
    """Everything comes from one generator, so that a seed is a run."""

    def __init__(self, model: Model, rng: random.Random) -> None:
        self._model = model
        self._rng = rng
        self._moves: Sequence[tuple[int, Callable[[], Request]]] = (
            (14, self._tus_create),
            (20, self._tus_patch),
            (7, self._head),
            (5, self._get),
            (3, self._file),
            (4, self._list),
            (4, self._delete),
            (10, self._put_first),
            (16, self._put_next),
            (6, self._whole),
            (10, self._complete),
            (1, self._odd),
            (9, self._final),
        )

    def step(self) -> Step:
        """The next one."""
        rng = self._rng
        hours = rng.choice([1, 5, 11, 23, 26])
        wait = rng.choices(
            [
                timedelta(0),
                timedelta(milliseconds=rng.randrange(1, 5000)),
                timedelta(seconds=61),
                timedelta(hours=hours),
            ],
            [25, 65, 6, 4],
        )[0]
        if self._is(0.05):
            return Step(wait, self._operation())
        weights, moves = zip(*((n, move) for n, move in self._moves if n), strict=True)
        request = rng.choices(moves, weights)[0]()
        return Step(wait, self._spoilt(request))

    # -- small things ------------------------------------------------------------------

    def _is(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _operation(self) -> Operation:
        rules = self._model.rules
        if rules.moving and self._is(0.4):
            return Operation("limits", draw_limits(self._rng, moving=True))
        name = self._rng.choice(["delete_expired", "check", "deliver_pending"])
        if name == "deliver_pending":
            return Operation(name)
        key = "keep_records" if name == "delete_expired" else "repair"
        return Operation(name, {key: self._is(0.4)})

    def _size(self) -> int:
        if self._is(0.03):
            return self._rng.choice(sorted(BAD_LENGTHS))
        return self._rng.choice(SIZES)

    def _bytes(self, size: int, *, first: bool, last: bool) -> bytes:
        """Content that hooks let pass, mostly.

        :param first: it begins the file.
        :param last: it ends the file.
        """
        body = bytearray(self._rng.randbytes(size))
        if size and (not first or not self._is(0.06)) and body[:1] == BAD_HEAD:
            body[0] = 0
        if size and first and self._is(0.06):
            body[:1] = BAD_HEAD
        if size and body[-1:] == BAD_END:
            body[-1] = 1
        if size and last and self._is(0.06):
            body[-1:] = BAD_END
        return bytes(body)

    def _name(self) -> str:
        flags = []
        if self._is(0.3):
            flags = self._rng.sample(_FLAGS, self._rng.choice([1, 1, 1, 2]))
        return "-".join([self._rng.choice("abc"), *flags]) + ".bin"

    def _upload(self, wanted: Callable[[Upload], bool]) -> Upload | None:
        """One that is wanted, mostly; else any, gone ones included."""
        all_there = list(self._model.there())
        fine = [one for one in all_there if wanted(one)]
        chosen = fine if fine and self._is(0.85) else all_there
        if self._is(0.03) or not chosen:
            chosen = [one for one in self._model.uploads if one.id is not None]
        # Recent ones more often, so that some get somewhere.
        recent = chosen[-6:] if self._is(0.7) else chosen
        return self._rng.choice(recent) if recent and not self._is(0.02) else None

    def _path(self, upload: Upload | None) -> str:
        if upload is None:
            return f"{PREFIX}/{self._rng.choice([UNKNOWN, 'x'])}"
        return f"{PREFIX}/{upload.id}"

    def _who(self, upload: Upload | None = None) -> dict[str, str]:
        """Headers that say who asks: the owner, mostly."""
        owner = self._rng.choices([*OWNERS, None], [4, 3, 2])[0]
        if upload is not None and self._is(0.93):
            owner = upload.user
        headers = {} if owner is None else {USER: owner}
        if self._is(0.02):
            headers[DENY] = self._rng.choice(["create", "list", *_ACTIONS])
        return headers

    def _spoilt(self, request: Request) -> Request:
        """The same by way of an override, sometimes."""
        method, headers = request.method, dict(request.headers)
        if method in ("PUT", "PATCH", "DELETE") and self._is(0.08):
            headers["X-HTTP-Method-Override"] = method
            return replace(request, method="POST", headers=headers)
        if self._is(0.02) and method != "POST":
            headers["X-HTTP-Method-Override"] = self._rng.choice(["DELETE", "PATCH"])
            return replace(request, headers=headers)
        raw = request.form is None and request.body and not request.chunked
        if raw and headers.get("Content-Type") != URLENCODED and self._is(0.05):
            # The client goes away before the end.
            kept = self._rng.choice([0, 1, len(request.body) // 2])
            left = request.body[:kept]
            return replace(request, body=left, cut=len(request.body) - kept)
        if request.payload and self._is(0.015):
            headers["Content-Encoding"] = "gzip"
            return replace(request, headers=headers)
        return request

    # -- tus ---------------------------------------------------------------------------

    def _tus_create(self) -> Request:
        rng = self._rng
        headers = {**TUS, **self._who()}
        length: int | None = self._size()
        if self._is(0.25):
            length = None
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(length)
        if self._is(0.4):
            headers["Upload-Concat"] = "partial"
        name = self._name()
        pairs = {"filename": name} if self._is(0.9) else {}
        if self._model.rules.titled and self._is(0.95):
            pairs["title"] = rng.choice(["One", "Two"])
        if pairs:
            headers["Upload-Metadata"] = metadata(**pairs)
        if self._is(0.03):
            self._break_creation(headers)
        if self._is(0.4):
            return Request("POST", f"{PREFIX}/", headers)
        return self._creation_with_body(headers, length)

    def _break_creation(self, headers: dict[str, str]) -> None:
        name, value = self._rng.choice(
            [
                ("Upload-Length", "-1"),
                ("Upload-Length", "9" * 19),
                ("Upload-Length", str(2**53)),
                ("Upload-Length", str(2**53 - 1)),
                ("Upload-Defer-Length", "2"),
                ("Upload-Defer-Length", "1"),
                ("Upload-Concat", "final"),
                ("Upload-Metadata", "filename !"),
                ("Tus-Resumable", "0.2.2"),
            ]
        )
        if value == str(2**53 - 1) and self._model.most < 2**53 - 1:
            return
        headers[name] = value

    def _creation_with_body(
        self, headers: dict[str, str], length: int | None
    ) -> Request:
        size = self._rng.choice(SIZES)
        if length is not None and length <= SIZES[-1]:
            size = length
        how = self._rng.random()
        if how < 0.3:
            size = self._rng.randrange(size + 1)
        elif how < 0.34:
            size += 3
        whole = size == length
        body = self._bytes(size, first=True, last=whole)
        headers["Content-Type"] = OCTETS if self._is(0.03) else TUS_OCTETS
        self._add_checksum(headers, body)
        chunked = self._is(0.08)
        return Request("POST", f"{PREFIX}/", headers, body, chunked=chunked)

    def _add_checksum(self, headers: dict[str, str], body: bytes) -> None:
        if not self._is(0.25):
            return
        kind = self._rng.choice(["sha1", "sha1", "md5", "sha256", "crc32"])
        how = self._rng.random()
        right = body if how < 0.75 else body + b"x"
        value = checksum(kind, right)
        if how > 0.96:
            value = self._rng.choice(["sha3 AAAA", "sha1 AAAA", "sha1 !"])
        headers["Upload-Checksum"] = value

    def _tus_patch(self) -> Request:
        rng = self._rng
        upload = self._upload(self._takes_patches)
        headers = {**TUS, **self._who(upload), "Content-Type": TUS_OCTETS}
        offset = 0 if upload is None else upload.offset
        length = None if upload is None else upload.length
        declared: int | None = None
        if length is None:
            size = rng.choice(SIZES)
            declared = offset + size if self._is(0.7) else self._size()
            declared = None if self._is(0.5) else declared
        else:
            size = self._part_of(length - offset)
        if declared is not None:
            headers["Upload-Length"] = str(declared)
        elif length is not None and self._is(0.04):
            headers["Upload-Length"] = str(rng.choice([length, length + 1]))
        end = declared if length is None else length
        body = self._bytes(size, first=offset == 0, last=offset + size == end)
        at = offset if self._is(0.95) else max(0, offset + rng.choice([-1, 1, 20]))
        headers["Upload-Offset"] = str(at)
        self._add_checksum(headers, body)
        if self._is(0.015):
            name, value = rng.choice(
                [
                    ("Upload-Offset", "x"),
                    ("Content-Type", OCTETS),
                    ("Upload-Length", ""),
                ]
            )
            headers[name] = value
        if self._is(0.01):
            del headers["Tus-Resumable"]
        chunked = self._is(0.1)
        return Request("PATCH", self._path(upload), headers, body, chunked=chunked)

    def _takes_patches(self, one: Upload) -> bool:
        full = one.offset == one.length and not self._is(0.2)
        return one.status == UPLOADING and one.kind != FINAL and not full

    def _part_of(self, left: int) -> int:
        """Bytes of a chunk: all that is left, a part, nothing, too much."""
        left = max(0, left)
        if left > 4 * SIZES[-1]:
            return self._rng.choice(SIZES)
        how = self._rng.random()
        if how < 0.5:
            return left
        if how < 0.85:
            return self._rng.randrange(left + 1)
        return 0 if how < 0.94 else left + self._rng.choice([1, 20])

    def _final(self) -> Request:
        rng, model = self._rng, self._model
        partials = [one for one in model.there() if one.kind == PARTIAL]
        owner = rng.choice(partials).user if partials else None
        mine = [one for one in partials if one.user == owner]
        done = [one for one in mine if one.status == COMPLETE]
        pool = done if done and self._is(0.6) else mine
        members = [str(rng.choice(pool).id) for _ in range(rng.randrange(1, 4)) if pool]
        waited = max(mine, key=lambda one: len(model.waiting_for(one)), default=None)
        if waited is not None and self._is(0.3):
            members.append(str(waited.id))
        if self._is(0.07) or not members:
            members.insert(0, rng.choice([UNKNOWN, "x", *self._ids()]))
        rng.shuffle(members)
        before = rng.choice(
            ["", f"{PREFIX}/", f"{PREFIX}/", "https://a.example/uploads/"]
        )
        urls = " ".join(before + one for one in members)
        headers = {**TUS, "Upload-Concat": f"final;{urls}"}
        if owner is None and self._is(0.15):
            # Partial uploads of no owner are for all who know their URLs.
            owner = rng.choice(OWNERS)
        if owner is not None and self._is(0.97):
            headers[USER] = owner
        pairs = {"filename": self._name()} if self._is(0.9) else {}
        if model.rules.titled and self._is(0.95):
            pairs["title"] = "Joined"
        if pairs:
            headers["Upload-Metadata"] = metadata(**pairs)
        if self._is(0.02):
            headers[DENY] = rng.choice(["create", "read", "complete"])
        if self._is(0.02):
            headers["Upload-Length"] = "20"
        if self._is(0.02):
            headers["Content-Type"] = TUS_OCTETS
            return Request("POST", f"{PREFIX}/", headers, b"bytes")
        return Request("POST", f"{PREFIX}/", headers)

    def _ids(self) -> list[str]:
        return [one.id for one in self._model.uploads if one.id is not None]

    def _odd(self) -> Request:
        """A method that its target has not."""
        method, path, headers = self._rng.choice(
            [
                ("PUT", self._path(self._any()), TUS),
                ("POST", self._path(self._any()), TUS),
                ("DELETE", f"{PREFIX}/", {}),
                ("PATCH", f"{PREFIX}/", TUS),
                ("HEAD", f"{PREFIX}/", TUS),
                ("DELETE", self._path(self._any()) + "/file", {}),
            ]
        )
        return Request(method, path, dict(headers))

    # -- looking -----------------------------------------------------------------------

    def _any(self) -> Upload | None:
        return self._upload(lambda one: True)

    def _dialect(self) -> dict[str, str]:
        return dict(TUS) if self._is(0.5) else {}

    def _head(self) -> Request:
        upload = self._any()
        headers = {**self._dialect(), **self._who(upload)}
        return Request("HEAD", self._path(upload), headers)

    def _get(self) -> Request:
        upload = self._any()
        headers = {**self._dialect(), **self._who(upload)}
        return Request("GET", self._path(upload), headers)

    def _file(self) -> Request:
        upload = self._upload(lambda one: one.status == COMPLETE)
        headers = {**self._dialect(), **self._who(upload)}
        method = self._rng.choice(["GET", "GET", "HEAD"])
        return Request(method, self._path(upload) + "/file", headers)

    def _list(self) -> Request:
        query = {}
        if self._is(0.7):
            query["status"] = self._rng.choice(["pending", "complete", "all", "x"])
        if self._is(0.3):
            query["count"] = "1"
        if self._is(0.3):
            query["per_page"] = self._rng.choice(["2", "100"])
        if self._is(0.4):
            query["partial"] = "1"
        headers = {**self._dialect(), **self._who()}
        method = "HEAD" if self._is(0.1) and headers.keys() == {USER} else "GET"
        return Request(method, f"{PREFIX}/", headers, query=query)

    def _delete(self) -> Request:
        upload = self._any()
        headers = {**self._dialect(), **self._who(upload)}
        return Request("DELETE", self._path(upload), headers)

    # -- Content-Range -----------------------------------------------------------------

    def _named(self, fields: dict[str, str]) -> dict[str, str]:
        """The fields of a creation."""
        fields["filename"] = self._name()
        if self._model.rules.titled and self._is(0.95):
            fields["title"] = self._rng.choice(["One", "Two"])
        return fields

    def _chunk(self, start: int, size: int, total: int) -> str:
        if self._is(0.015):
            return self._rng.choice(["bytes 5-1/9", "bytes */9", "items 0-1/2"])
        if not size:
            return "bytes */0"
        return f"bytes {start}-{start + size - 1}/{total}"

    def _carrying(
        self, method: str, path: str, headers: dict[str, str], **told: Any
    ) -> Request:
        """A chunk in a form, or raw.

        :param told: ``body`` and ``fields``, and ``repeat`` where it is one.
        """
        body, fields = told["body"], told["fields"]
        if self._is(0.5):
            headers["Content-Type"] = OCTETS
            return Request(method, path, headers, body, query=fields)
        part = "files[]" if self._is(0.1) else "file"
        # A repeat is not known as one where the upload is named after the file.
        behind = self._is(0.1) and not told.get("repeat")
        form = Form(fields, body, fields.get("filename", "upload"), part, behind)
        return Request(method, path, headers, form=form)

    def _put_first(self) -> Request:
        total = self._size()
        size = total if self._is(0.4) else self._rng.randrange(total + 1)
        size = size or total
        body = self._bytes(size, first=True, last=size == total)
        start = 20 if self._is(0.02) else 0
        headers = {**self._who(), "Content-Range": self._chunk(start, size, total)}
        if self._is(0.02):
            body += b"x"
        method = "PUT" if self._is(0.7) else "POST"
        fields = self._named({})
        return self._carrying(method, f"{PREFIX}/", headers, body=body, fields=fields)

    def _put_next(self) -> Request:
        rng = self._rng
        upload = self._upload(self._takes_chunks)
        offset = 0 if upload is None else upload.offset
        total = 5000 if upload is None else upload.length
        total = offset + rng.choice(SIZES) if total is None else total
        size = max(1, self._part_of(total - offset)) if total else 0
        start = offset
        body = self._bytes(size, first=not start, last=start + size == total)
        how = rng.random()
        if upload is not None and upload.last_start is not None and how < 0.12:
            start = upload.last_start
            body = upload.content[start:]
            if how < 0.04 and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
        elif how < 0.17:
            start = max(0, start + rng.choice([-1, 1, 20]))
        elif how < 0.19:
            total += 1
        elif how < 0.21:
            body += b"x"
        size = len(body) - (0.19 <= how < 0.21)
        headers = {
            **self._who(upload),
            "Content-Range": self._chunk(start, size, total),
        }
        return self._next(upload, headers, body, repeat=how < 0.12)

    @staticmethod
    def _takes_chunks(one: Upload) -> bool:
        opened = one.status == UPLOADING and one.offset != one.length
        return opened and one.kind not in (FINAL, PARTIAL)

    def _next(
        self, upload: Upload | None, headers: dict[str, str], body: bytes, **more: bool
    ) -> Request:
        """By PUT or POST to the upload, or by POST with its id in a field."""
        how = self._rng.random()
        path, fields = self._path(upload), {}
        if how < 0.25 and upload is not None:
            path, fields = f"{PREFIX}/", {"upload_id": str(upload.id)}
        method = "PUT" if how > 0.35 else "POST"
        told: dict[str, Any] = {"body": body, "fields": fields, **more}
        return self._carrying(method, path, headers, **told)

    def _whole(self) -> Request:
        size = self._size()
        body = self._bytes(size, first=True, last=True)
        fields = self._named({})
        if self._is(0.95):
            fields["md5"] = md5(body) if self._is(0.9) else md5(body + b"x")
        headers = self._who()
        if self._is(0.3):
            headers["Content-Type"] = OCTETS
            return Request("POST", f"{PREFIX}/", headers, body, query=fields)
        form = Form(fields, None if self._is(0.03) else body, fields["filename"])
        return Request("POST", f"{PREFIX}/", headers, form=form)

    def _complete(self) -> Request:
        upload = self._upload(
            lambda one: one.offset == one.length and one.kind != PARTIAL
        )
        right = "" if upload is None else upload.md5
        fields = {"md5": right} if self._is(0.95) else {}
        if self._is(0.15):
            fields["md5"] = md5(b"other")
        elif fields and self._is(0.1):
            fields["md5"] = right.upper()
        path = self._path(upload)
        if upload is not None and self._is(0.3):
            path = f"{PREFIX}/"
            fields["upload_id"] = str(upload.id)
        headers = self._who(upload)
        if self._is(0.3):
            return Request("POST", path, headers, form=Form(fields))
        headers["Content-Type"] = URLENCODED
        body = "&".join(f"{name}={value}" for name, value in fields.items())
        return Request("POST", path, headers, body.encode())
