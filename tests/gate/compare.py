"""Where server and model differ: an answer, the questions, the rows, the bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime

from werkzeug.http import http_date

from tests.gate.model import Model
from tests.gate.requests import PREFIX, Request
from tests.gate.roads import Answer
from tests.gate.server import SIGNALS, Reply, Server
from tests.gate.uploads import COMPLETE, EXPIRED, FINAL, PARTIAL, Upload

Event = tuple[object, ...]

#: Stands for an upload that no answer has named.
NEW = "the new upload"

#: code of an error -> what its text says, where the text is the package's own.
SAYS: Mapping[str, str] = {
    "already_complete": 'already been marked as "complete"',
    "body_interrupted": "ended before its announced length",
    "checksum_mismatch": "checksum does not match",
    "checksum_required": "Checksum of type 'md5' is required",
    "chunk_beyond_length": "End of chunk exceeds reported total",
    "chunk_missing": "No chunk file was submitted",
    "chunk_size_mismatch": "File size doesn't match headers",
    "final_upload": "A final upload takes no bytes",
    "incomplete": "Upload is incomplete",
    "invalid_creation": "Upload-Length|carries no length",
    "invalid_fields": "Invalid or missing fields: title",
    "invalid_query": "Query argument",
    "length_below_offset": "is below the offset",
    "length_changed": r"Total of the upload is \d+ bytes but",
    "length_undeclared": "must be declared",
    "malformed_header": "Error in request headers|: ",
    "method_not_allowed": "is not allowed here",
    "not_a_partial": "only be made from partial uploads",
    "not_authorized": "You do not have permission",
    "offset_mismatch": "Offsets do not match",
    "owner_required": "user cannot be determined",
    "partial_missing": "A partial upload of this final upload is gone",
    "partial_upload": "partial upload",
    "quota_exceeded": "may have .* bytes in all",
    "rejected": "^No: ",
    "too_large": "Size of file exceeds the limit",
    "too_many_finals": "final uploads wait",
    "too_many_uploads": "unfinished uploads, the most",
    "unknown_upload": r"^Not found\.",
    "unsupported_encoding": "Content-Encoding is not supported",
    "unsupported_media_type": "Content-Type must be",
    "unsupported_version": "Tus-Resumable must be",
    "upload_expired": "Upload has expired",
}


def adopt(model: Model, server: Server) -> None:
    """The model's new uploads get the ids that the server told its listeners."""
    mine = [event[1] for event in model.told if event[0] == "created"]
    theirs = [event[1] for event in server.told if event[0] == "created"]
    for upload, upload_id in zip(mine, theirs, strict=False):
        assert isinstance(upload, Upload)
        upload.id = str(upload_id)


def events(model: Model, server: Server) -> Iterator[str]:
    """Hooks and signals that differ."""
    known = {upload.id for upload in model.uploads}
    finals = {one.id or NEW for one in model.uploads if one.kind == FINAL}
    for what, mine, theirs in (
        ("hooks", _of_model(model.asked), _of_server(server.asked, known)),
        ("signals", _of_model(model.told), _of_server(server.told, known)),
    ):
        mine, theirs = _in_order(mine, finals), _in_order(theirs, finals)
        if mine != theirs:
            yield f"{what}: model {_short(mine)}, server {_short(theirs)}"


def _of_model(found: Iterable[Event]) -> list[Event]:
    return [
        tuple((one.id or NEW) if isinstance(one, Upload) else one for one in event)
        for event in found
    ]


def _of_server(found: Iterable[Event], known: set[str | None]) -> list[Event]:
    return [
        (name, NEW if who is not None and who not in known else who, *rest)
        for name, who, *rest in found
    ]


def _in_order(found: Iterable[Event], finals: Set[str]) -> list[Event]:
    """Without what may be so or so.

    A permission may be asked for again within a request, it says the same again;
    uploads that expire together do so in any order, and final uploads that wait for the
    same partial one are made in any; and listeners may be told of an upload that a
    failed creation leaves nothing of, or not, but never by halves.
    """
    found = list(found)
    began = {event[1] for event in found if event[0] == "created"}
    passing = {one[1] for one in found if one[0] == "terminated" and one[1] in began}
    kept: list[Event] = []
    for event in found:
        again = event[0] == "authorize" and event in kept
        if not again and (event[1] not in passing or event[0] not in SIGNALS):
            kept.append(event)
    together = [(n, event) for n, event in enumerate(kept) if event[0] == "expired"]
    in_order = sorted((event for _, event in together), key=lambda one: str(one[1]))
    for (n, _), event in zip(together, in_order, strict=True):
        kept[n] = event
    if len({event[1] for event in kept} & finals) > 1:
        kept.sort(key=lambda event: str(event[1]))
    return kept


def _short(found: Sequence[Event]) -> str:
    def show(value: object) -> str:
        if isinstance(value, bytes) and len(value) > 12:
            return f"<{len(value)} bytes, {value[:2]!r}..{value[-2:]!r}>"
        return str(value)

    return "; ".join(" ".join(map(show, event)) for event in found) or "none"


# -- answers ---------------------------------------------------------------------------


def answers(
    model: Model, request: Request, answer: Answer, reply: Reply
) -> Iterator[str]:
    """How an answer differs from what it must be."""
    if reply.status != answer.status:
        yield (
            f"status {reply.status} {reply.body[:200]!r}, "
            f"model {answer.status} {answer.code or ''}"
        )
        return
    yield from _headers(model, request, answer, reply)
    if answer.code is not None and reply.body:
        yield from _error(answer, reply)
    if answer.shows is not None and reply.status < 400:
        wanted = represented(model, answer.shows)
        if answer.form_style:
            ends = model.ends_at(answer.shows)
            wanted |= {"upload_id": answer.shows.id, "expires": iso(ends)}
        shown = json.loads(reply.body)
        if not _has_right_digest(shown, answer.shows) or shown != wanted:
            yield f"JSON {reply.body!r}, model {wanted}"
    if answer.listed is not None:
        wanted_list = [represented(model, one) for one in answer.listed]
        listed = json.loads(reply.body)
        pairs = zip(listed, answer.listed, strict=False)
        is_right = all(_has_right_digest(one, upload) for one, upload in list(pairs))
        if not is_right or listed != wanted_list:
            yield f"list {reply.body!r}, model {wanted_list}"
    if answer.body is not None and reply.body != answer.body:
        yield f"body {reply.body[:60]!r}, model {answer.body[:60]!r}"


def _headers(
    model: Model, request: Request, answer: Answer, reply: Reply
) -> Iterator[str]:
    wanted = dict(answer.headers)
    is_tus = "Tus-Resumable" in request.headers
    if answer.created is not None and is_tus and answer.code is None:
        wanted["Location"] = f"{PREFIX}/{answer.created.id}"
    if answer.subject is not None and not answer.subject.gone:
        ends = model.told_end(answer.subject)
        wanted["Upload-Expires"] = None if ends is None else http_date(ends)
    for name, value in wanted.items():
        if reply.headers.get(name) != value:
            yield f"{name}: {reply.headers.get(name)}, model {value}"


def _error(answer: Answer, reply: Reply) -> Iterator[str]:
    says = reply.body.decode()
    if reply.headers["Content-Type"] == "application/json":
        told = json.loads(reply.body)
        says = told["detail"]
        if told.get("code", answer.code) != answer.code:
            yield f"code {told['code']}, model {answer.code}"
        for name, value in answer.told.items():
            if name != "name" and told.get(name) != value:
                yield f"{name} {told.get(name)}, model {value}"
    if not re.search(SAYS[str(answer.code)], says):
        yield f"error {says!r}, model {answer.code}"


def _has_right_digest(shown: dict[str, object], upload: Upload) -> bool:
    """Take the digest out of an upload's JSON, and compare it with the content.

    A digest is stored only where a client or a setting has asked for one.
    """
    digest = shown.pop("digest")
    if digest is None:
        return True
    name, _, value = str(digest).partition(":")
    is_complete = upload.status == COMPLETE
    return is_complete and hashlib.new(name, upload.content).hexdigest() == value


def represented(model: Model, upload: Upload) -> dict[str, object]:
    """The JSON of an upload."""
    url = f"http://localhost{PREFIX}/{upload.id}"
    is_file = upload.status == COMPLETE and upload.kind != PARTIAL
    shown: dict[str, object] = {
        "id": upload.id,
        "url": url,
        "file": f"{url}/file" if is_file else None,
        "filename": upload.filename,
        "offset": upload.offset,
        "created_at": iso(upload.created),
        "completed_at": iso(upload.completed),
        "status": 2 if upload.status == COMPLETE else 1,
        "user": upload.user,
        "length": upload.length,
    }
    if upload.kind == PARTIAL:
        shown["partial"] = True
    if model.rules.titled:
        shown["title"] = upload.title
    return shown


def iso(moment: datetime | None) -> str | None:
    """As the JSON has times."""
    if moment is None:
        return None
    text = moment.replace(tzinfo=None).isoformat(timespec="microseconds")
    return text + "Z"


# -- what is stored --------------------------------------------------------------------


def rows(model: Model, server: Server) -> Iterator[str]:
    """How rows and stored bytes differ from the model's uploads."""
    stored = server.rows()
    there = {upload.id: upload for upload in model.there()}
    for extra in stored.keys() - there.keys():
        row = stored[extra]
        found = f"{row.status.value}, {row.offset} of {row.length} bytes"
        yield f"a row that must not be there: {extra}, {row.filename}, {found}"
    for missing in there.keys() - stored.keys():
        yield f"no row of {missing}, {there[missing].filename}"
    for upload_id in there.keys() & stored.keys():
        upload, row = there[upload_id], stored[str(upload_id)]
        mine = (upload.status, upload.offset, upload.length, upload.user)
        theirs = (row.status.value, row.offset, row.length, row.user)
        if mine != theirs:
            yield f"row of {upload_id}: {theirs}, model {mine}"
        if upload.is_unfinished and row.last_activity_at != upload.active:
            found = f"{row.last_activity_at}, model {upload.active}"
            yield f"last activity of {upload_id}: {found}"
        if upload.status != EXPIRED and (
            upload.status == COMPLETE or server.reads_unfinished
        ):
            content = server.content(row)
            if content != upload.content:
                yield f"content of {upload_id}: {_difference(content, upload)}"


def lists(model: Model, server: Server) -> Iterator[str]:
    """How the Python API's lists differ from the model's uploads."""
    for partial in (False, True):
        mine = {one.id for one in model.there() if (one.kind == PARTIAL) is partial}
        theirs = server.listed(partial=partial)
        if mine != theirs:
            yield f"uploads(partial={partial}): {theirs}, model {mine}"


def _difference(content: bytes, upload: Upload) -> str:
    pairs = zip(content, upload.content, strict=False)
    at = next((n for n, (a, b) in enumerate(pairs) if a != b), "the end")
    return f"{len(content)} of {upload.offset} bytes, first difference at {at}"


def quotas(model: Model, server: Server) -> Iterator[str]:
    """How the table of quotas differs from the model's sums."""
    if not model.rules.counts:
        return
    found = server.quotas()
    owners = {one.user for one in model.there()} | {key or None for key in found}
    for owner in owners:
        sums = model.sums(owner)
        row = found.get(owner or "", (0, 0, 0))
        mine = (sums.uploads, sums.size, sums.stored - sums.size)
        rules = model.rules
        counted = 2 if rules.max_stored is None and not rules.moving else 3
        if row[:counted] != mine[:counted]:
            yield f"quota of {owner}: {row}, model {sums}"


def settle(model: Model, server: Server) -> None:
    """What the model leaves open is as the server has it, within reason."""
    if not model.loose:
        return
    stored = server.rows()
    for upload in model.loose:
        row = stored.get(str(upload.id))
        if row is not None and row.last_activity_at == model.now:
            upload.active = model.now
