"""Form bodies: fields in memory, the file part straight into a stage.

A chunk in a form is whole or it is nothing, so it does not touch the upload before the
form was read to its end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import parse_qsl

from flask import Request

from ..engine.hashing import FileDigest
from ..exceptions import MalformedBody, TooLarge, UnsupportedMediaType
from ..protocol.filename import from_disposition
from ..storage.base import Stage
from .base import Call
from .multipart import BUFFER_SIZE, FormTooLarge, MultipartForm

#: Bytes of all text fields of a form together.
MAX_FIELDS_SIZE = 64 * 2**10

#: Content-Types of forms that cannot carry a file.
FIELD_TYPES = ("application/x-www-form-urlencoded", "application/json")
#: Content-Types whose body is a form and not itself the file.
FORM_TYPES = ("multipart/form-data", *FIELD_TYPES)


@dataclass(frozen=True, slots=True)
class PartLimits:
    """How much of a file part is stored.

    :param keep: bytes to store; more are counted only, for the error message.
    :param refuse_above: bytes above which the request is refused at once.
    """

    keep: int | None = None
    refuse_above: int | None = None


class FilePart:
    """The file part of a form on its way into a stage; or, without one, its digest.

    :param file_digest: of the whole file, to be gone on with.
    """

    def __init__(
        self,
        stage: Stage | None,
        limits: PartLimits,
        file_digest: FileDigest | None = None,
    ) -> None:
        self.stage = stage
        self.file_digest = file_digest
        self.size = 0
        self.filename: str | None = None
        self.content_type: str | None = None
        self._limits = limits
        # What is stored can be read again where somebody wants to know.
        self._digest = hashlib.sha256() if stage is None else None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of a part that was not stored."""
        return "" if self._digest is None else self._digest.hexdigest()

    def write(self, block: bytes | bytearray | memoryview) -> int:
        """Take bytes of the part.

        :raises TooLarge: more than may come at all.
        """
        limit = self._limits.refuse_above
        if limit is not None and self.size + len(block) > limit:
            raise TooLarge(limit)
        keep = self._limits.keep
        room = len(block) if keep is None else max(0, keep - self.size)
        kept = memoryview(block)[:room]
        if self.stage is not None and kept:
            self.stage.write(kept)
        for digest in (self._digest, self.file_digest):
            if digest is not None:
                digest.update(kept)
        self.size += len(block)
        return len(block)


@dataclass(slots=True)
class Form:
    """A parsed form. Use as a context manager: it drops a stage that was not taken."""

    fields: dict[str, str] = field(default_factory=dict)
    part: FilePart | None = None

    def __enter__(self) -> Form:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.part is not None and self.part.stage is not None:
            self.part.stage.close()


def is_multipart(request: Request) -> bool:
    """Does the request carry a multipart form?"""
    return request.mimetype == "multipart/form-data"


def refuse_content_encoding(request: Request) -> None:
    """Bodies are taken as they are, never unpacked.

    :raises UnsupportedMediaType: the body is said to be packed.
    """
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType(
            "Content-Encoding is not supported; send plain bytes"
        )


def receive_form(
    call: Call,
    limits: PartLimits,
    *,
    stage: bool = True,
    file_digest: FileDigest | None = None,
) -> Form:
    """Read a form to its end.

    Query arguments count as fields where the form has none of that name.

    :param limits: of the file part.
    :param stage: ``False`` takes only the part's digest and stores nothing.
    :param file_digest: of the whole file, to be gone on with.
    :raises MalformedBody: it is no form, or has more than one file.
    """
    request = call.request
    refuse_content_encoding(request)
    form = Form(fields=dict(request.args.items()))

    def new_part() -> FilePart:
        return _new_part(call, limits, stage, file_digest)

    try:
        if "form" in request.__dict__:
            _take_parsed(call, form, new_part)
        elif is_multipart(request):
            _parse_multipart(call, form, new_part)
        else:
            form.fields.update(_read_small_body(call))
    except BaseException:
        form.__exit__(None, None, None)
        raise
    if form.part is not None:
        # jQuery-File-Upload names a chunk in a header; its part may be called "blob".
        form.part.filename = raw_filename(request) or form.part.filename
    return form


def receive_raw(
    call: Call,
    limits: PartLimits,
    *,
    stage: bool = True,
    file_digest: FileDigest | None = None,
) -> Form:
    """Read a raw body to its end, as if it were the file part of a form.

    :param stage: ``False`` takes only the digest and stores nothing.
    :param file_digest: of the whole file, to be gone on with.
    """
    refuse_content_encoding(call.request)
    form = Form(fields=dict(call.request.args.items()))
    form.part = part = _new_part(call, limits, stage, file_digest)
    part.filename = raw_filename(call.request)
    part.content_type = call.request.mimetype or None
    buffer = memoryview(bytearray(BUFFER_SIZE))
    try:
        while count := call.body.read_into(buffer):
            part.write(buffer[:count])
    except BaseException:
        form.__exit__(None, None, None)
        raise
    return form


def raw_filename(request: Request) -> str | None:
    """The name that the request's own Content-Disposition gives the file."""
    disposition = request.headers.get("Content-Disposition")
    return None if disposition is None else from_disposition(disposition)


def declared_type(content_type: str | None) -> str | None:
    """A media type as its column takes it; nothing where it cannot be one."""
    text = (content_type or "")[:255]
    # RFC 9110, section 8.3.1: ASCII; some databases cannot store a NUL at all.
    return text if text.isascii() and text.isprintable() and text else None


def _file_names(call: Call) -> tuple[str, str]:
    # jQuery-File-Upload names its part "files[]", whatever the server calls it.
    return (call.host.field_name, "files[]")


def _new_part(
    call: Call, limits: PartLimits, stage: bool, file_digest: FileDigest | None
) -> FilePart:
    place = call.host.engine.storage.stage() if stage else None
    return FilePart(place, limits, file_digest)


def _parse_multipart(call: Call, form: Form, new_part: Callable[[], FilePart]) -> None:
    request = call.request
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary.isascii() or not 0 < len(boundary) <= 200:
        raise MalformedBody(
            "multipart/form-data needs a boundary of 1 to 200 characters"
        )

    def new_file(filename: str, content_type: str | None) -> FilePart:
        if form.part is not None:
            raise MalformedBody("More than one file in the form")
        form.part = new_part()
        form.part.filename = filename
        form.part.content_type = content_type
        return form.part

    multipart = MultipartForm(
        call.body.read_into,
        boundary.encode("ascii"),
        new_file=new_file,
        max_parts=call.host.max_form_parts,
        max_text=MAX_FIELDS_SIZE,
    )
    try:
        multipart.parse()
    except FormTooLarge as error:
        raise _form_too_large(call) from error
    form.fields.update(multipart.fields)
    if form.part is None or multipart.file_names[0] in _file_names(call):
        return
    # A file under another name is no chunk.
    if form.part.stage is not None:
        form.part.stage.close()
    form.part = None


def _form_too_large(call: Call) -> MalformedBody:
    return MalformedBody(
        f"Form has more than {call.host.max_form_parts} parts, or text fields of more "
        f"than {MAX_FIELDS_SIZE} bytes",
        status=413,
    )


def _take_parsed(call: Call, form: Form, new_part: Callable[[], FilePart]) -> None:
    """The application (Flask-WTF, say) has parsed the form before us."""
    request = call.request
    form.fields.update(request.form.items())
    if sum(1 for _ in request.files.items(multi=True)) > 1:
        raise MalformedBody("More than one file in the form")
    for name in _file_names(call):
        chosen = request.files.get(name)
        if chosen is None:
            continue
        form.part = new_part()
        form.part.filename = chosen.filename
        form.part.content_type = chosen.content_type
        while block := chosen.stream.read(BUFFER_SIZE):
            form.part.write(block)
        return


def _read_small_body(call: Call) -> Mapping[str, str]:
    """Fields of an urlencoded or JSON body; any other type has none."""
    mimetype = call.request.mimetype
    if mimetype not in FIELD_TYPES:
        return {}
    buffer = memoryview(bytearray(MAX_FIELDS_SIZE + 1))
    size = 0
    while count := call.body.read_into(buffer[size:]):
        size += count
        if size > MAX_FIELDS_SIZE:
            raise MalformedBody(
                f"Form fields are larger than {MAX_FIELDS_SIZE} bytes", status=413
            )
    try:
        text = str(buffer[:size], "utf-8")
        if mimetype == "application/json":
            return _json_fields(text)
        return dict(
            parse_qsl(
                text, keep_blank_values=True, max_num_fields=1000, errors="strict"
            )
        )
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"Malformed {mimetype} body") from error


def _json_fields(text: str) -> Mapping[str, str]:
    if not text.strip():
        return {}
    value = json.loads(text)
    if not isinstance(value, dict):
        raise MalformedBody("JSON body must be an object")
    return {
        name: item if isinstance(item, str) else json.dumps(item)
        for name, item in value.items()
        if item is not None
    }
