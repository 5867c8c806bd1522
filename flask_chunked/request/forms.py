"""Forms: fields are kept in memory, the file part goes straight to its target.

A chunk in a form is atomic: it is committed when the whole form has been read, or not
at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from flask import Request
from werkzeug.datastructures import FileStorage, ImmutableMultiDict

from ..exceptions import MalformedBody
from ..protocol.filename import from_disposition
from .context import UploadRequest
from .fields import FIELD_TYPES, MAX_FIELDS_SIZE, read_fields
from .multipart import BUFFER_SIZE, FormLimits, MultipartForm
from .part_heads import (
    MAX_HEADER,
    MAX_HEADERS,
    MULTIPART,
    FormTooLarge,
    HeadTooLarge,
    PartHead,
    boundary_of,
)
from .parts import (
    FilePart,
    PartLimits,
    PartTarget,
    open_part,
    receive_body,
    stage_target,
)

#: Content-Types whose body is a form and not itself the file.
FORM_TYPES = (MULTIPART, *FIELD_TYPES)

#: Of these, those that Werkzeug's ``form`` shows.
PARSED_TYPES = (MULTIPART, "application/x-www-form-urlencoded")

#: Chooses the target of the file part from the fields that came before it; the flag
#: says whether the part is still being received.
ChooseTarget = Callable[[Mapping[str, str], bool], PartTarget]
#: Opens the file part at the target that :data:`ChooseTarget` chooses.
OpenPart = Callable[[Mapping[str, str], bool], FilePart]


@dataclass(slots=True)
class Form:
    """A parsed form."""

    fields: dict[str, str] = field(default_factory=dict)
    part: FilePart | None = None


def is_multipart(http: Request) -> bool:
    """True if the request's Content-Type is ``multipart/form-data``."""
    return http.mimetype == MULTIPART


@contextmanager
def receive_form(
    request: UploadRequest, limits: PartLimits, choose: ChooseTarget | None = None
) -> Iterator[Form]:
    """Read a form to its end; on leaving, discard what was not taken of its file.

    Query arguments count as fields if the form has none of that name.

    :param limits: of the file part.
    :param choose: the target of the file part; default: a stage.
    :raises MalformedBody: it is no form, or has more than one file.
    """
    http = request.http
    form = Form(fields=dict(http.args.items()))
    with ExitStack() as stack:

        def open_chosen(fields: Mapping[str, str], arriving: bool) -> FilePart:
            target = (
                stage_target(request) if choose is None else choose(fields, arriving)
            )
            return open_part(stack, target, limits)

        # Werkzeug's `form` is a cached_property: its value is in `__dict__` if the
        # application (Flask-WTF, for example) has read it. Of other bodies than forms
        # it is empty, and they are still unread.
        if "form" in http.__dict__ and http.mimetype in PARSED_TYPES:
            request.stream.require_form(http)
            _take_parsed(request, form, open_chosen)
        elif is_multipart(http):
            _MultipartReceiver(request, form, open_chosen).receive()
        else:
            form.fields.update(read_fields(request))
        if form.part is not None:
            form.part.join()
            # jQuery-File-Upload sends the filename of a chunk in a header, and may call
            # the part "blob".
            form.part.filename = raw_filename(http) or form.part.filename
        yield form


@contextmanager
def receive_raw(
    request: UploadRequest, limits: PartLimits, target: PartTarget
) -> Iterator[Form]:
    """Read a raw body to its end, as if it were the file part of a form."""
    with ExitStack() as stack:
        form = Form(fields=dict(request.http.args.items()))
        form.part = part = open_part(stack, target, limits)
        part.filename = raw_filename(request.http)
        part.content_type = request.http.mimetype or None
        receive_body(request, part)
        yield form


def raw_filename(http: Request) -> str | None:
    """The filename in the request's own Content-Disposition."""
    disposition = http.headers.get("Content-Disposition")
    return None if disposition is None else from_disposition(disposition)


def declared_type(content_type: str | None) -> str | None:
    """A media type as its column stores it; ``None`` if it cannot be one."""
    text = (content_type or "")[:255]
    # RFC 9110, section 8.3.1: ASCII; some databases cannot store a NUL at all.
    return text if text.isascii() and text.isprintable() and text else None


def _file_names(request: UploadRequest) -> tuple[str, str]:
    # jQuery-File-Upload names its part "files[]", whatever name the server expects.
    return (request.policy.field_name, "files[]")


class _MultipartReceiver:
    """Receives a multipart form: its fields and its file part.

    :param form: gets both.
    :param open_chosen: opens the file part when its headers have been read.
    """

    def __init__(
        self, request: UploadRequest, form: Form, open_chosen: OpenPart
    ) -> None:
        self._request = request
        self._form = form
        self._open_chosen = open_chosen
        self._fields: dict[str, str] = {}
        self._all_fields: list[tuple[str, str]] = []
        self._is_chunk = False

    def receive(self) -> None:
        """Read the form to its end.

        :raises MalformedBody: it is no form, is too large, or has more than one file.
        """
        request, form = self._request, self._form
        multipart = MultipartForm(
            self._read_into,
            boundary_of(request.http.mimetype_params),
            self,
            FormLimits(parts=request.policy.max_form_parts, text=MAX_FIELDS_SIZE),
            request.announced_length(),
        )
        try:
            multipart.parse()
        except FormTooLarge as error:
            raise _too_large(request, error) from error
        finally:
            self._show_fields()
        form.fields.update(self._fields)
        if form.part is not None and not self._is_chunk:
            # A file under another name is ignored.
            form.part = None

    def _read_into(self, view: memoryview) -> int:
        part = self._form.part
        if part is None:
            return self._request.body.read_into(view)
        return part.fill(self._request.body, view)

    def add_field(self, head: PartHead, text: str) -> None:
        """Take a text field; the first one of a name counts."""
        self._fields.setdefault(head.name, text)
        self._all_fields.append((head.name, text))

    def open_file(self, head: PartHead) -> FilePart:
        """Begin the file.

        :raises MalformedBody: it is the second one.
        """
        form = self._form
        if form.part is not None:
            raise MalformedBody("More than one file in the form")
        self._show_fields()
        self._is_chunk = head.name in _file_names(self._request)
        if self._is_chunk:
            form.part = self._open_chosen({**form.fields, **self._fields}, True)
        else:
            form.part = FilePart(None, PartLimits(keep=0))
        form.part.filename = head.filename
        form.part.content_type = head.header("Content-Type")
        return form.part

    def _show_fields(self) -> None:
        """Let hooks and the application find the fields where they expect them."""
        http = self._request.http
        http.form = ImmutableMultiDict(self._all_fields)
        http.files = ImmutableMultiDict()


def _too_large(request: UploadRequest, error: FormTooLarge) -> MalformedBody:
    text = (
        f"A part of the form has more than {MAX_HEADERS} headers, or one of more than "
        f"{MAX_HEADER} bytes"
        if isinstance(error, HeadTooLarge)
        else f"Form has more than {request.policy.max_form_parts} parts, or text "
        f"fields of more than {MAX_FIELDS_SIZE} bytes"
    )
    return MalformedBody(text, status=413)


def _take_parsed(request: UploadRequest, form: Form, open_chosen: OpenPart) -> None:
    """Take fields and file from the form that the application has parsed."""
    http = request.http
    # As without the application: the first field of a name in a multipart form counts,
    # and the last one in an urlencoded form.
    which = 0 if is_multipart(http) else -1
    form.fields.update((name, values[which]) for name, values in http.form.lists())
    if sum(1 for _ in http.files.items(multi=True)) > 1:
        raise MalformedBody("More than one file in the form")
    for name in _file_names(request):
        chosen = http.files.get(name)
        if chosen is None:
            continue
        form.part = open_chosen(form.fields, False)
        form.part.filename = chosen.filename
        form.part.content_type = chosen.content_type
        _rewind(chosen)
        while block := chosen.stream.read(BUFFER_SIZE):
            # A disk reads faster than a digest is computed.
            form.part.wait_for_buffer()
            form.part.write(block)
        return


def _rewind(chosen: FileStorage) -> None:
    """Begin a file that the application may have read.

    :raises RuntimeError: it cannot be read again.
    """
    try:
        chosen.stream.seek(0)
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"The application has closed the file {chosen.name!r} of this request, or "
            "its stream cannot seek, so the upload cannot read it. Nothing was stored. "
            "Leave the file open"
        ) from error
