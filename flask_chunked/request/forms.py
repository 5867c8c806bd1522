"""Form bodies: fields in memory, the file part straight to where it is wanted.

A chunk in a form is whole or it is nothing: it counts when the form has been read to
its end.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from flask import Request

from ..engine.atomic import AtomicWriter, ShortChunk
from ..engine.digest_thread import Digest, DigestThread
from ..engine.digests import FileDigest
from ..exceptions import MalformedBody, TooLarge
from ..protocol.filename import from_disposition
from ..storage.base import Stage
from .body import BodyReader
from .buffers import give_back, take_buffer
from .context import UploadRequest
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


#: What takes the bytes of a file part.
Store = Stage | AtomicWriter | ShortChunk


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file part goes.

    :param open: makes what takes its bytes, for as long as the form is looked at;
        ``None``: they are not kept, and only known by their digest.
    :param file_digest: of the whole file, to be gone on with beside a stage.
    """

    open: Callable[[], AbstractContextManager[Store]] | None
    file_digest: FileDigest | None = None


#: Says where, by the fields that came before it, and whether it is still to come in.
ChoosePlace = Callable[[Mapping[str, str], bool], Place]


class FilePart:
    """The file part of a form on its way into a stage or behind its upload.

    :param store: ``None``: only its digest is wanted.
    :param digests: others that take all that is kept.
    """

    def __init__(
        self,
        store: Store | None,
        limits: PartLimits,
        digests: Sequence[Digest] = (),
    ) -> None:
        self.stage = store if isinstance(store, Stage) else None
        self.held = store if isinstance(store, AtomicWriter) else None
        self.short = store if isinstance(store, ShortChunk) else None
        self.size = 0
        self.filename: str | None = None
        self.content_type: str | None = None
        self.file_digest: FileDigest | None = None
        self._store = store
        self._limits = limits
        # What is stored can be read again where somebody wants to know.
        self._digest = hashlib.sha256() if store is None else None
        mine = [] if self._digest is None else [self._digest]
        self._digest_thread = DigestThread([*mine, *digests])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of a part that was not stored."""
        return "" if self._digest is None else self._digest.hexdigest()

    def fill(self, body: BodyReader, view: memoryview) -> int:
        """Read some of the body, waiting for the client with nobody locked out."""
        held = self.held
        if held is not None and held.is_inside:
            # Also where what comes is no part of the file, so that nobody writes.
            count = 0 if held.is_due else body.read_ready_into(view)
            if count or body.ended:
                return count
            held.pause()
        return body.read_into(view)

    @property
    def is_at_work(self) -> bool:
        """May a block that was given still be looked at?"""
        held = self.held
        return self._digest_thread.is_at_work or (held is not None and held.is_at_work)

    def make_room(self) -> None:
        """Wait until the block before the last one is not needed any more."""
        self._digest_thread.wait_for_buffer()
        if self.held is not None:
            self.held.wait_for_buffer()

    def write(self, block: bytes | memoryview) -> int:
        """Take bytes of the part.

        :raises TooLarge: more than may come at all.
        """
        limit = self._limits.refuse_above
        if limit is not None and self.size + len(block) > limit:
            raise TooLarge(limit)
        keep = self._limits.keep
        room = len(block) if keep is None else max(0, keep - self.size)
        kept = memoryview(block)[:room]
        if room < len(block):
            # Buffers in turn count on it that each block is looked at, or none.
            self._digest_thread.join()
        if kept:
            if self._store is not None:
                self._store.write(kept)
            self._digest_thread.update(kept)
        self.size += len(block)
        return len(block)

    def settle(self) -> None:
        """Wait until the digests have taken everything."""
        self._digest_thread.join()

    def close(self) -> None:
        """Take no more; may be called twice."""
        self._digest_thread.close()


@dataclass(slots=True)
class Form:
    """A parsed form."""

    fields: dict[str, str] = field(default_factory=dict)
    part: FilePart | None = None


def is_multipart(http: Request) -> bool:
    """Does the request carry a multipart form?"""
    return http.mimetype == "multipart/form-data"


@contextmanager
def receive_form(
    request: UploadRequest, limits: PartLimits, choose: ChoosePlace | None = None
) -> Iterator[Form]:
    """Read a form to its end; what of its file nobody has taken then, is dropped.

    Query arguments count as fields where the form has none of that name.

    :param limits: of the file part.
    :param choose: where it goes; default: into a stage.
    :raises MalformedBody: it is no form, or has more than one file.
    """
    http = request.http
    form = Form(fields=dict(http.args.items()))
    with ExitStack() as stack:

        def new_part(fields: Mapping[str, str], arriving: bool) -> FilePart:
            place = staged(request) if choose is None else choose(fields, arriving)
            return open_part(stack, place, limits)

        if "form" in http.__dict__:
            _take_parsed(request, form, new_part)
        elif is_multipart(http):
            _parse_multipart(request, form, new_part)
        else:
            form.fields.update(_read_small_body(request))
        if form.part is not None:
            form.part.settle()
            # jQuery-File-Upload names a chunk in a header; its part may be called
            # "blob".
            form.part.filename = raw_filename(http) or form.part.filename
        yield form


@contextmanager
def receive_raw(
    request: UploadRequest, limits: PartLimits, place: Place
) -> Iterator[Form]:
    """Read a raw body to its end, as if it were the file part of a form."""
    with ExitStack() as stack:
        form = Form(fields=dict(request.http.args.items()))
        form.part = part = open_part(stack, place, limits)
        part.filename = raw_filename(request.http)
        part.content_type = request.http.mimetype or None
        take_body(request, part)
        yield form


def staged(request: UploadRequest, file_digest: FileDigest | None = None) -> Place:
    """A new stage, with the digest of the file that goes on behind it."""
    return Place(request.engine.storage.stage, file_digest)


def in_memory() -> Place:
    """For a few bytes that an upload is made with."""
    return Place(lambda: nullcontext(ShortChunk()))


def open_part(
    stack: ExitStack, place: Place, limits: PartLimits, digests: Sequence[Digest] = ()
) -> FilePart:
    """A file part for as long as the stack lives.

    :param digests: that take its bytes, beside that of the place.
    """
    store = None if place.open is None else stack.enter_context(place.open())
    if isinstance(store, Stage) and limits.keep is not None:
        store.expect(limits.keep)
    mine = [] if place.file_digest is None else [place.file_digest]
    part = FilePart(store, limits, [*mine, *digests])
    part.file_digest = place.file_digest
    stack.callback(part.close)
    return part


def take_body(request: UploadRequest, part: FilePart) -> None:
    """Read the whole body into a part."""
    buffers = [take_buffer(BUFFER_SIZE) for _ in range(2)]
    for buffer in itertools.cycle(buffers):
        part.make_room()
        view = memoryview(buffer)[:BUFFER_SIZE]
        count = request.body.read_into(view)
        if not count:
            break
        part.write(view[:count])
    part.settle()
    for buffer in buffers:
        give_back(buffer)


def raw_filename(http: Request) -> str | None:
    """The name that the request's own Content-Disposition gives the file."""
    disposition = http.headers.get("Content-Disposition")
    return None if disposition is None else from_disposition(disposition)


def declared_type(content_type: str | None) -> str | None:
    """A media type as its column takes it; nothing where it cannot be one."""
    text = (content_type or "")[:255]
    # RFC 9110, section 8.3.1: ASCII; some databases cannot store a NUL at all.
    return text if text.isascii() and text.isprintable() and text else None


def _file_names(request: UploadRequest) -> tuple[str, str]:
    # jQuery-File-Upload names its part "files[]", whatever the server calls it.
    return (request.policy.field_name, "files[]")


NewPart = Callable[[Mapping[str, str], bool], FilePart]


def _parse_multipart(request: UploadRequest, form: Form, new_part: NewPart) -> None:
    http = request.http
    boundary = http.mimetype_params.get("boundary", "")
    if not boundary.isascii() or not 0 < len(boundary) <= 200:
        raise MalformedBody(
            "multipart/form-data needs a boundary of 1 to 200 characters"
        )

    fields: dict[str, str] = {}
    is_chunk = False

    def read_into(view: memoryview) -> int:
        if form.part is None:
            return request.body.read_into(view)
        return form.part.fill(request.body, view)

    def new_file(name: str, filename: str, content_type: str | None) -> FilePart:
        nonlocal is_chunk
        if form.part is not None:
            raise MalformedBody("More than one file in the form")
        is_chunk = name in _file_names(request)
        if is_chunk:
            form.part = new_part({**form.fields, **fields}, True)
        else:
            form.part = FilePart(None, PartLimits(keep=0))
        form.part.filename = filename
        form.part.content_type = content_type
        return form.part

    multipart = MultipartForm(
        read_into,
        boundary.encode("ascii"),
        fields=fields,
        new_file=new_file,
        max_parts=request.policy.max_form_parts,
        max_text=MAX_FIELDS_SIZE,
    )
    try:
        multipart.parse()
    except FormTooLarge as error:
        raise _form_too_large(request) from error
    form.fields.update(fields)
    if form.part is not None and not is_chunk:
        # A file under another name is none.
        form.part = None


def _form_too_large(request: UploadRequest) -> MalformedBody:
    return MalformedBody(
        f"Form has more than {request.policy.max_form_parts} parts, or text fields of "
        f"more than {MAX_FIELDS_SIZE} bytes",
        status=413,
    )


def _take_parsed(request: UploadRequest, form: Form, new_part: NewPart) -> None:
    """The application (Flask-WTF, say) has parsed the form before us."""
    http = request.http
    form.fields.update(http.form.items())
    if sum(1 for _ in http.files.items(multi=True)) > 1:
        raise MalformedBody("More than one file in the form")
    for name in _file_names(request):
        chosen = http.files.get(name)
        if chosen is None:
            continue
        form.part = new_part(form.fields, False)
        form.part.filename = chosen.filename
        form.part.content_type = chosen.content_type
        while block := chosen.stream.read(BUFFER_SIZE):
            # A disk reads faster than a digest takes.
            form.part.make_room()
            form.part.write(block)
        return


def _read_small_body(request: UploadRequest) -> Mapping[str, str]:
    """Fields of an urlencoded or JSON body; any other type has none."""
    mimetype = request.http.mimetype
    if mimetype not in FIELD_TYPES:
        return {}
    buffer = memoryview(bytearray(MAX_FIELDS_SIZE + 1))
    size = 0
    while count := request.body.read_into(buffer[size:]):
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
