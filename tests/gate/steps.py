"""Requests of which roads are made: each is sent, and said to the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.apps import stop_clock
from tests.dialects.tus import BYTES, TUS, checksum
from tests.exchange import OCTETS, content_range, id_of, md5
from tests.gate.recorder import (
    FINAL,
    ORDINARY,
    PARTIAL,
    Crash,
    Refusal,
    refusal_by_hook,
)
from tests.gate.table import Known
from tests.gate.traveller import BASE, FILE, Refused, Request, Traveller

Step = Callable[[Traveller], None]


# -- Content-Range -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """How a chunk of the Content-Range dialect is sent.

    :param form: as the file of a form; else it is the body.
    :param method: ``POST`` too carries chunks.
    :param named: where a request to the collection names its upload: ``before`` or
        ``after`` the file of the form, in the ``query``; ``""``: its URL does.
    """

    form: bool = False
    method: str = "PUT"
    named: str = ""
    override: bool = False


RAW, FORM = Way(), Way(form=True)
POST_RAW, POST_FORM = Way(method="POST"), Way(form=True, method="POST")
BEFORE = replace(POST_FORM, named="before")
AFTER = replace(POST_FORM, named="after")
FORM_QUERY = replace(POST_FORM, named="query")
RAW_QUERY = replace(POST_RAW, named="query")
OVERRIDDEN = Way(override=True)


def put(part: str = "rest", way: Way = RAW) -> Step:
    """A chunk; the first one makes the upload. Where none is left none is sent."""

    def step(traveller: Traveller) -> None:
        known = traveller.uploads.get(FILE)
        data, total = traveller.part(FILE, part), len(traveller.content)
        if known is not None and not data and (known.length is not None or total):
            return
        creates = known is None
        if known is None:
            known = traveller.uploads[FILE] = Known(length=total)
            traveller.table.create(known)
        else:
            if way.named in ("before", "after") and not known.content:
                # Before its body nothing says that this is no new upload.
                traveller.table.act("create")
            traveller.table.act("append", known)
            traveller.table.declare(known, total)
        start = len(known.content)
        traveller.table.receive(known, data)
        request = _chunk(way, known, data, content_range(data, start, total))
        traveller.send(replace(request, creates=creates))

    return step


def _chunk(way: Way, known: Known, data: bytes, told: str) -> Request:
    headers = {"Content-Range": told}
    body: Any = data
    fields: dict[str, Any] = {"file": data}
    name = {"upload_id": str(id_of(known.url))} if way.named and known.url else {}
    if way.form:
        body = {"before": {**name, **fields}, "after": {**fields, **name}}.get(
            way.named, fields
        )
    else:
        headers["Content-Type"] = OCTETS
    if way.override:
        headers["X-HTTP-Method-Override"] = way.method
    return Request(
        method="POST" if way.override else way.method,
        url=BASE if way.named or not known.url else known.url,
        upload=known,
        headers=headers,
        data=body,
        query=name if way.named == "query" else None,
    )


def whole(*, form: bool) -> Step:
    """A whole file and its checksum in one POST."""

    def step(traveller: Traveller) -> None:
        data = traveller.content
        known = traveller.uploads[FILE] = Known(length=len(data))
        traveller.table.create(known)
        traveller.table.receive(known, data)
        traveller.table.complete(known, answers=True)
        digest = {"md5": md5(data)} if traveller.checks else {}
        sent: dict[str, Any] = {"data": data, "headers": {"Content-Type": OCTETS}}
        sent["query"] = digest
        if form:
            sent = {"data": {**digest, "file": data}, "headers": {}}
        traveller.send(
            Request(method="POST", url=BASE, upload=known, creates=True, **sent)
        )

    return step


def post(how: str = "urlencoded", name: str = FILE) -> Step:
    """POST with the checksum, which finishes, or compares what is finished."""

    def step(traveller: Traveller) -> None:
        known = traveller.uploads[name]
        traveller.send(finishing_post(traveller, known, how))

    return step


def finishing_post(traveller: Traveller, known: Known, how: str) -> Request:
    """The request; the table knows of it."""
    if known.is_complete:
        traveller.table.act("complete", known)
        traveller.table.answer(known)
    else:
        traveller.table.complete(known, answers=True)
    fields = {"md5": md5(known.content)} if traveller.checks else {}
    request = Request(method="POST", url=known.url, upload=known, headers={})
    if how == "query":
        return replace(request, query=fields)
    if how == "json":
        headers = {"Content-Type": "application/json"}
        return replace(request, headers=headers, data=json.dumps(fields))
    if how == "form":
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        parts = "".join(
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        return replace(request, headers=headers, data=f"{parts}--b--\r\n")
    if how == "collection":
        fields["upload_id"] = str(id_of(known.url))
        return replace(request, url=BASE, data=fields)
    return replace(request, data=fields)


# -- tus -----------------------------------------------------------------------------


def create(
    part: str = "none",
    *,
    name: str = FILE,
    deferred: bool = False,
    checked: str = "",
    chunked: bool = False,
) -> Step:
    """POST: a new upload, with its first bytes perhaps; a member is a partial one."""

    def step(traveller: Traveller) -> None:
        whole, data = traveller.target(name), traveller.part(name, part)
        kind = ORDINARY if name == FILE else PARTIAL
        length = None if deferred else len(whole)
        known = traveller.uploads[name] = Known(kind=kind, length=length)
        headers = dict(TUS) if part == "none" else dict(BYTES)
        headers |= {"Upload-Concat": "partial"} if kind == PARTIAL else {}
        told = {"Upload-Defer-Length": "1"} if deferred else {}
        headers |= told or {"Upload-Length": str(length)}
        if checked:
            headers["Upload-Checksum"] = checksum(checked, data)
        traveller.table.create(known)
        traveller.table.receive(known, data)
        if known.is_all_there:
            traveller.table.complete(known, answers=True)
        traveller.send(
            Request(
                method="POST",
                url=BASE,
                upload=known,
                headers=headers,
                data=None if part == "none" else data,
                expect=201,
                creates=True,
                chunked=chunked,
            )
        )

    return step


def patch(
    part: str = "rest",
    *,
    name: str = FILE,
    declares: bool = False,
    checked: str = "",
    chunked: bool = False,
    override: bool = False,
) -> Step:
    """PATCH; the one that brings the last byte finishes. None for what is complete."""

    def step(traveller: Traveller) -> None:
        known = traveller.uploads[name]
        if known.is_complete:
            return
        data, start = traveller.part(name, part), len(known.content)
        headers = {**BYTES, "Upload-Offset": str(start)}
        traveller.table.act("append", known)
        if declares:
            total = len(traveller.target(name))
            headers["Upload-Length"] = str(total)
            traveller.table.declare(known, total)
        if checked:
            headers["Upload-Checksum"] = checksum(checked, data)
        if override:
            headers["X-HTTP-Method-Override"] = "PATCH"
        traveller.table.receive(known, data)
        if known.is_all_there:
            traveller.table.complete(known, answers=True)
        traveller.send(
            Request(
                method="POST" if override else "PATCH",
                url=known.url,
                upload=known,
                headers=headers,
                data=data,
                expect=204,
                chunked=chunked,
            )
        )

    return step


def head(name: str = FILE, *, bare: bool = False) -> Step:
    """HEAD; that of tus finishes what is all there."""

    def step(traveller: Traveller) -> None:
        traveller.send(looking(traveller, traveller.uploads[name], bare=bare))

    return step


def looking(traveller: Traveller, known: Known, *, bare: bool = False) -> Request:
    """A HEAD; the table knows of it."""
    traveller.table.act("read", known)
    if not known.is_complete and known.kind != FINAL:
        traveller.table.act("append", known)
        if known.is_all_there and not bare:
            traveller.table.complete(known, answers=False)
    if known.kind == FINAL and not bare:
        traveller.table.assemble(known, answers=False)
    return Request("HEAD", known.url, known, {} if bare else TUS)


def final(*members: str) -> Step:
    """POST of a final upload; one of complete members is made at once."""

    def step(traveller: Traveller) -> None:
        chosen = tuple(traveller.uploads[name] for name in members)
        known = Known(kind=FINAL, members=chosen)
        number = sum(one.kind == FINAL for one in traveller.uploads.values())
        traveller.uploads[f"final {number}"] = known
        traveller.table.create(known)
        for member in dict.fromkeys(chosen):
            member.finals.append(known)
        traveller.table.assemble(known, answers=True)
        urls = " ".join(one.url for one in chosen)
        traveller.send(
            Request(
                method="POST",
                url=BASE,
                upload=known,
                headers={**TUS, "Upload-Concat": f"final;{urls}"},
                expect=201,
                creates=True,
            )
        )

    return step


def again(traveller: Traveller) -> None:
    """The last request once more, since its answer was lost: nothing happens twice."""
    request = traveller.last
    assert request is not None
    known = request.upload
    if request.method == "PUT" and not request.creates:
        traveller.table.act("append", known)
        traveller.send(request)
    elif request.method == "POST" and not request.is_tus:
        traveller.send(finishing_post(traveller, known, "urlencoded"))
    elif request.is_tus:
        # A client asks where the upload stands, and sends what is missing: nothing.
        traveller.send(looking(traveller, known))
        traveller.table.act("append", known)
        traveller.table.answer(known)
        offset = {**BYTES, "Upload-Offset": str(len(known.content))}
        traveller.send(Request("PATCH", known.url, known, offset, b"", expect=204))


# -- what goes wrong on the way ------------------------------------------------------


def refused(step: Step, what: str, kind: str = ORDINARY) -> Step:
    """The request is refused once; its client looks, or asks again."""

    def stumble(traveller: Traveller) -> None:
        if traveller.site is None:
            step(traveller)
            return
        error = None if what.startswith("authorize") else refusal_by_hook()
        traveller.site.blueprint.refusal = Refusal(what, kind=kind, error=error)
        try:
            step(traveller)
        except Refused as refusal:
            traveller.settle(refusal)
        # A road whose file is complete without this request never comes here.
        traveller.site.blueprint.refusal = None

    return stumble


def crashed(step: Step, what: str) -> Step:
    """The process dies where it asks this about a final upload."""

    def stumble(traveller: Traveller) -> None:
        if traveller.site is None or traveller.uploads["final 0"].is_complete:
            step(traveller)
            return
        traveller.site.blueprint.refusal = Refusal(what, kind=FINAL, error=Crash())
        with pytest.raises(Crash):
            step(traveller)
        traveller.rewind_final(keep_bytes=what == "verify")

    return stumble


def later(traveller: Traveller) -> None:
    """So much later that the process that died is given up."""
    if traveller.site is not None:
        now = datetime.now(timezone.utc)
        stop_clock(traveller.site.app, now + timedelta(seconds=90))
