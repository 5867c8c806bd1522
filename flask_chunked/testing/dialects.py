"""The requests with which each dialect sends a file, through Flask's test client."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypedDict, get_args
from urllib.parse import urlencode

from flask.testing import FlaskClient
from werkzeug.http import dump_options_header
from werkzeug.test import TestResponse

from ..protocol.content_range import ContentRange
from ..protocol.tus import CONTENT_TYPE, VERSION
from ..registration import Registration

#: ``content-range``: each chunk is the body of a PUT, and a POST completes. ``form``:
#: each chunk is a part of a form; without ``chunk_size`` one form has the whole file.
#: ``tus``: a POST creates, and each PATCH has a chunk.
DialectName = Literal["content-range", "form", "tus"]
#: All of them, for ``pytest.mark.parametrize``.
DIALECTS: tuple[DialectName, ...] = get_args(DialectName)
#: Characters of an answer's body in an error message.
_SHOWN = 1000


class UploadOptions(TypedDict, total=False):
    """Options of :func:`upload`, :func:`begin` and :func:`refusal`."""

    #: Name of the file; default: ``upload.bin``.
    filename: str
    #: Media type of the file; default: ``application/octet-stream``.
    content_type: str
    #: Default: ``content-range``.
    dialect: DialectName
    #: Bytes of a chunk; default: the whole file is one chunk.
    chunk_size: int | None
    #: Values for fields of the schema, or of a form.
    fields: Mapping[str, str]
    #: Headers of every request, such as ``Authorization`` or ``X-CSRFToken``.
    headers: Mapping[str, str]


class UploadRefused(AssertionError):
    """A request of an upload was not answered with success.

    :param response: the answer.
    """

    def __init__(self, response: TestResponse) -> None:
        self.response = response
        asked = response.request
        goal = f" to {response.location}" if response.location else ""
        body = response.get_data().decode("utf-8", "replace").strip()
        super().__init__(
            f"{asked.method} {asked.path} was answered with {response.status}{goal}: "
            f"{body[:_SHOWN]}"
        )


@dataclass(frozen=True, slots=True)
class File:
    """The file that is sent, and how."""

    content: bytes
    filename: str = "upload.bin"
    content_type: str = "application/octet-stream"
    dialect: DialectName = "content-range"
    chunk_size: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dialect not in DIALECTS:
            known = ", ".join(DIALECTS)
            raise ValueError(f"dialect is {self.dialect!r}; it must be one of: {known}")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"chunk_size is {self.chunk_size}; it must be at least 1")

    @property
    def is_one_form(self) -> bool:
        """True if one form has the whole file."""
        return self.dialect == "form" and self.chunk_size is None

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The chunks between two offsets."""
        size = self.chunk_size or max(stop - start, 1)
        for first in range(start, stop, size):
            yield first, min(first + size, stop)


@dataclass(frozen=True, slots=True)
class Caller:
    """Sends requests as one client, with the headers that belong to it."""

    client: FlaskClient
    here: Registration
    headers: Mapping[str, str]

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> TestResponse:
        __tracebackhide__ = True
        response = self.client.open(
            url, method=method, headers={**self.headers, **(headers or {})}, **body
        )
        if not 200 <= response.status_code < 300:
            raise UploadRefused(response)
        return response


class Requests:
    """The requests of one dialect; the base has what PUT and POST share."""

    def __init__(self, caller: Caller, file: File) -> None:
        self.caller = caller
        self.file = file

    def create(self, url: str, stop: int) -> tuple[TestResponse, int]:
        """Create the upload, with its first chunk; the answer and the new offset."""
        __tracebackhide__ = True
        start, end = next(self.file.spans(0, stop), (0, 0))
        return self.append(url, start, end), end

    def append(self, url: str, start: int, stop: int) -> TestResponse:
        """Send one chunk."""
        raise NotImplementedError

    def complete(self, url: str) -> TestResponse | None:
        """Ask for the completion; ``None``: the last chunk has completed the upload."""
        __tracebackhide__ = True
        return self.caller("POST", url, data=self._checksum())

    def _checksum(self) -> dict[str, str]:
        here = self.caller.here
        if not here.policy.do_checksum_check:
            return {}
        name = here.settings.checksum
        return {name: hashlib.new(name, self.file.content).hexdigest()}

    def _range(self, start: int, stop: int) -> dict[str, str]:
        span = ContentRange(start, stop, len(self.file.content))
        return {"Content-Range": span.to_header()}


class ContentRangeRequests(Requests):
    """Chunks as bodies of PUT."""

    def append(self, url: str, start: int, stop: int) -> TestResponse:
        __tracebackhide__ = True
        file = self.file
        headers = self._range(start, stop)
        if start == 0:
            # The first chunk creates the upload.
            named = dump_options_header("attachment", {"filename": file.filename})
            headers["Content-Disposition"] = named
            if file.fields:
                url += ("&" if "?" in url else "?") + urlencode(file.fields)
        return self.caller(
            "PUT",
            url,
            headers,
            data=file.content[start:stop],
            content_type=file.content_type,
        )


class FormRequests(Requests):
    """Chunks as parts of forms."""

    def append(self, url: str, start: int, stop: int) -> TestResponse:
        __tracebackhide__ = True
        fields = self.file.fields if start == 0 else {}
        data = {**fields, **self._part(start, stop)}
        return self.caller("PUT", url, self._range(start, stop), data=data)

    def _part(self, start: int, stop: int) -> dict[str, tuple[io.BytesIO, str, str]]:
        file = self.file
        chunk = io.BytesIO(file.content[start:stop])
        name = self.caller.here.policy.field_name
        return {name: (chunk, file.filename, file.content_type)}


class WholeForm(FormRequests):
    """The file and its checksum in one form, as a page without a script sends it."""

    def create(self, url: str, stop: int) -> tuple[TestResponse, int]:
        __tracebackhide__ = True
        data = {**self.file.fields, **self._checksum(), **self._part(0, stop)}
        return self.caller("POST", url, data=data), stop

    def complete(self, url: str) -> None:
        """The form has done it."""


class TusRequests(Requests):
    """POST without bytes, PATCH with them."""

    _VERSION: ClassVar[Mapping[str, str]] = {"Tus-Resumable": VERSION}

    def create(self, url: str, stop: int) -> tuple[TestResponse, int]:
        __tracebackhide__ = True
        file = self.file
        pairs = {"filename": file.filename, "filetype": file.content_type}
        told = {**pairs, **file.fields}.items()
        headers = {
            **self._VERSION,
            "Upload-Length": str(len(file.content)),
            "Upload-Metadata": ",".join(
                f"{key} {base64.b64encode(value.encode()).decode()}"
                for key, value in told
            ),
        }
        return self.caller("POST", url, headers), 0

    def append(self, url: str, start: int, stop: int) -> TestResponse:
        __tracebackhide__ = True
        headers = {**self._VERSION, "Upload-Offset": str(start)}
        chunk = self.file.content[start:stop]
        return self.caller("PATCH", url, headers, data=chunk, content_type=CONTENT_TYPE)

    def complete(self, url: str) -> None:
        """PATCH has done it."""


REQUESTS: Mapping[DialectName, type[Requests]] = {
    "content-range": ContentRangeRequests,
    "form": FormRequests,
    "tus": TusRequests,
}
