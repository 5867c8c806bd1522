"""How the model answers a request: dispatch, and what both dialects share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.gate.model import Model
from tests.gate.requests import DENY, PREFIX, USER, Request
from tests.gate.uploads import COMPLETE, PARTIAL, UPLOADING, Refused, Upload

COLLECTION, UPLOAD, FILE = "collection", "upload", "file"
#: Methods that a POST may stand for.
OVERRIDABLE = ("PUT", "PATCH", "DELETE")
VERSION = "1.0.0"
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_NUMBER = re.compile(r"[0-9]{1,19}\Z")
_LISTS = {
    "pending": (UPLOADING,),
    "complete": (COMPLETE,),
    "all": (UPLOADING, COMPLETE),
}

#: code of an error -> its status in the Content-Range dialect, and in tus.
STATUSES: Mapping[str, tuple[int, int]] = {
    "already_complete": (400, 409),
    "body_interrupted": (400, 503),
    "checksum_mismatch": (400, 460),
    "checksum_required": (400, 400),
    "chunk_beyond_length": (400, 413),
    "chunk_missing": (400, 400),
    "chunk_size_mismatch": (400, 413),
    "final_upload": (403, 403),
    "incomplete": (400, 400),
    "invalid_creation": (400, 400),
    "invalid_fields": (400, 400),
    "invalid_query": (400, 400),
    "length_below_offset": (400, 400),
    "length_changed": (400, 400),
    "length_undeclared": (400, 400),
    "malformed_header": (400, 400),
    "method_not_allowed": (405, 405),
    "not_a_partial": (400, 400),
    "not_authorized": (403, 403),
    "offset_mismatch": (400, 409),
    "owner_required": (401, 401),
    "partial_missing": (410, 410),
    "partial_upload": (403, 403),
    "quota_exceeded": (413, 413),
    "rejected": (400, 422),
    "too_large": (400, 413),
    "too_many_finals": (429, 429),
    "too_many_uploads": (429, 429),
    "unknown_upload": (404, 404),
    "unsupported_encoding": (415, 415),
    "unsupported_media_type": (415, 415),
    "unsupported_version": (412, 412),
    "upload_expired": (410, 410),
}


@dataclass(slots=True)
class Answer:
    """What the server must answer.

    :param code: of the error; ``None``: it is none.
    :param headers: to be there with this value; ``None``: not to be there.
    :param shows: the upload that the JSON shows.
    :param form_style: with the keys of django-chunked-upload's answers.
    :param listed: uploads in the JSON list.
    :param body: the very body.
    :param created: the new upload, whose id the server's answer tells.
    :param subject: the upload that ``Upload-Expires`` is about.
    """

    status: int
    code: str | None = None
    told: Mapping[str, object] = field(default_factory=dict)
    headers: dict[str, str | None] = field(default_factory=dict)
    shows: Upload | None = None
    form_style: bool = False
    listed: list[Upload] | None = None
    body: bytes | None = None
    created: Upload | None = None
    subject: Upload | None = None


@dataclass(slots=True)
class Call:
    """A request as the dispatcher understands it.

    :param upload_id: as the path has it.
    """

    model: Model
    request: Request
    method: str
    target: str
    upload_id: str

    @property
    def caller(self) -> str | None:
        """Who asks."""
        return self.request.headers.get(USER)

    def header(self, name: str) -> str | None:
        """A header."""
        return self.request.headers.get(name)

    def find(self) -> Upload:
        """The upload that the path names."""
        return self.model.find(self.upload_id, self.caller)

    def require_owner(self) -> None:
        """Anonymous callers create only where that is allowed."""
        if self.caller is None and not self.model.rules.allow_anonymous:
            raise Refused("owner_required")

    def require_plain(self) -> None:
        """Packed bodies are refused."""
        is_packed = self.header("Content-Encoding") not in (None, "identity")
        if is_packed and self.request.announced != 0:
            raise Refused("unsupported_encoding")


Handler = Callable[[Call], Answer]


def call_of(model: Model, request: Request) -> Call:
    """Take the request apart."""
    rest = request.path.removeprefix(PREFIX).strip("/")
    method = request.method
    override = request.headers.get("X-HTTP-Method-Override", "").upper()
    if method == "POST" and override:
        tus = "Tus-Resumable" in request.headers
        method = override if tus or override in OVERRIDABLE else method
    upload_id, _, last = rest.partition("/")
    target = UPLOAD if upload_id else COLLECTION
    target = FILE if last == "file" else target
    model.begin(request.headers.get(DENY, ""))
    return Call(model, request, method, target, upload_id)


def handle(
    call: Call, handlers: Mapping[tuple[str, str], Handler], statuses: int
) -> Answer:
    """Let the right handler answer; say what a refusal looks like.

    :param statuses: column of ``STATUSES``.
    """
    try:
        handler = handlers.get((call.target, call.method))
        if handler is None:
            raise Refused("method_not_allowed")
        if call.method in ("POST", "PUT", "PATCH"):
            call.require_plain()
        return handler(call)
    except Refused as error:
        status = error.status or STATUSES[error.code][statuses]
        return Answer(status, error.code, error.told)


def is_id(text: str) -> bool:
    """Can it be an upload's id?"""
    return _ID.match(text) is not None


def number(name: str, text: str) -> int:
    """A number of bytes in a header."""
    if not _NUMBER.match(text) or int(text) > 2**63 - 1:
        raise Refused("malformed_header", name=name)
    return int(text)


# -- what both dialects share ----------------------------------------------------------


def show(call: Call) -> Answer:
    """GET of an upload."""
    upload = call.find()
    call.model.authorize("read", upload)
    call.model.require_live(upload)
    return Answer(200, shows=upload, headers=described(call.model, upload))


def described(model: Model, upload: Upload) -> dict[str, str | None]:
    """Headers of an upload's state that all dialects agree about."""
    length = None if upload.length is None else str(upload.length)
    return {"Upload-Length": length, "Upload-Concat": upload.concat}


def remove(call: Call) -> Answer:
    """DELETE."""
    upload = call.find()
    action = "delete" if upload.status == COMPLETE else "terminate"
    call.model.authorize(action, upload)
    call.model.remove(upload)
    return Answer(204)


def content(call: Call) -> Answer:
    """GET of an upload's file."""
    upload = call.find()
    if upload.status != COMPLETE or upload.kind == PARTIAL:
        raise Refused("unknown_upload")
    call.model.authorize("download", upload)
    body = b"" if call.method == "HEAD" else upload.content
    return Answer(200, body=body, headers={"Content-Length": str(upload.offset)})


def listing(call: Call) -> Answer:
    """GET of the collection."""
    call.model.authorize("list")
    query = call.request.query
    chosen = query.get("status", "pending")
    if chosen not in _LISTS:
        raise Refused("invalid_query")
    partial = query.get("partial") == "1"
    found = call.model.listed(call.caller, _LISTS[chosen], partial=partial)
    size = int(query.get("per_page", 100))
    count = str(len(found)) if query.get("count") == "1" else None
    headers = {"X-Total-Count": count}
    listed = None if call.method == "HEAD" else found[:size]
    return Answer(200, listed=listed, headers=headers)
