"""Takes a road to a complete upload and compares each request with the table.

A traveller without a site travels on paper: the table notes what would be asked.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from werkzeug.test import TestResponse

from tests.dialects.tus import CHUNKED
from tests.gate.recorder import FINAL, REFUSED, Notes, Site
from tests.gate.table import Known, Table

BASE = "/uploads/"
#: Name of the upload that a road without concatenation is about.
FILE = "file"


class Refused(Exception):
    """A request was refused by the hook that a test told to refuse.

    :param request: the one that was refused.
    :param kind: of the upload that the hook was asked about.
    """

    def __init__(self, request: Request, what: str, kind: str | None) -> None:
        super().__init__(what)
        self.request = request
        self.what = what
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    :param upload: that it is about.
    :param expect: the status of its answer.
    :param creates: the upload is made by it.
    :param form: a dictionary is sent as a form.
    """

    method: str
    url: str
    upload: Known
    headers: Mapping[str, str]
    data: Any = None
    query: Mapping[str, str] | None = None
    expect: int = 200
    creates: bool = False
    chunked: bool = False

    @property
    def shape(self) -> tuple[object, ...]:
        """What it has in common with requests on other roads."""
        fields = tuple(self.data) if isinstance(self.data, dict) else bool(self.data)
        kind = (self.upload.kind, self.creates, self.chunked, bool(self.query))
        return (self.method, *kind, fields, *sorted(self.headers))

    @property
    def is_tus(self) -> bool:
        """Is it in the dialect whose HEAD finishes what is all there?"""
        return "Tus-Resumable" in self.headers


class Traveller:
    """One client on its road.

    :param content: what it wants to bring.
    :param site: ``None``: on paper.
    """

    def __init__(self, content: bytes, site: Site | None = None) -> None:
        self.content = content
        self.site = site
        self.table = Table()
        self.uploads: dict[str, Known] = {}
        self.trace: list[tuple[Request, Notes]] = []
        self.last: Request | None = None
        self._saved: dict[Known, Known] = {}
        #: What ``wants_checksum`` of the blueprint says.
        self.checks = site is None or site.blueprint.do_checksum_check

    # -- content ----------------------------------------------------------------------

    def target(self, name: str) -> bytes:
        """All bytes of the upload of this name: a member has its half."""
        middle = len(self.content) // 2
        halves = {"a": self.content[:middle], "b": self.content[middle:]}
        return halves.get(name, self.content)

    def part(self, name: str, part: str) -> bytes:
        """The bytes that come next: ``half`` of all, ``most``, the ``rest``, none."""
        whole = self.target(name)
        known = self.uploads.get(name)
        there = 0 if known is None else len(known.content)
        stops = {"none": 0, "half": len(whole) // 2, "most": max(0, len(whole) - 1)}
        return whole[there : stops.get(part, len(whole))]

    # -- requests ---------------------------------------------------------------------

    def send(self, request: Request) -> TestResponse | None:
        """Send it, and compare what it did with what the table says.

        :return: ``None`` on paper.
        """
        self.last = request
        meant = self.table.turn()
        self.trace.append((request, meant))
        if self.site is None:
            request.upload.url = request.upload.url or f"{BASE}{uuid4()}"
            return None
        body: dict[str, Any] = {"data": _with_files(request.data)}
        headers = dict(request.headers)
        if request.chunked:
            stream = io.BytesIO(request.data)
            body = {"input_stream": stream, "environ_overrides": CHUNKED}
            headers["Transfer-Encoding"] = "chunked"
        response = self.site.client.open(
            request.url,
            method=request.method,
            headers=headers,
            query_string=request.query,
            **body,
        )
        refused = self.site.blueprint.refused
        noted = self.site.blueprint.turn()
        self._learn_url(request, response)
        if refused is not None and not self._goes_on(request, refused):
            self._compare_refused(request, noted, meant)
            status = _status_of(request, refused)
            assert response.status_code == status, (*refused, response.status)
            raise Refused(request, *refused)
        answer = (request.method, response.status, response.get_data())
        assert response.status_code == request.expect, answer
        self._compare(request, noted, meant)
        self._saved = {known: replace(known) for known in self.uploads.values()}
        return response

    def _goes_on(self, request: Request, refused: tuple[str, str | None]) -> bool:
        """``deliver`` is asked again later; a HEAD that may not append only reads."""
        what, _ = refused
        return what == "deliver" or (what, request.method) == (
            "authorize append",
            "HEAD",
        )

    # -- after a refusal --------------------------------------------------------------

    def settle(self, refused: Refused) -> None:
        """What is left, says the table, after a hook refused a request.

        Nothing of an upload that ``validate`` or ``inspect`` refuses, or whose creating
        request fails; all bytes, uploading, of one that ``verify`` or
        ``authorize("complete")`` refuses; the bytes from before, where no caller may
        append.
        """
        upload, what = refused.request.upload, refused.what
        if refused.kind == FINAL and upload.kind != FINAL:
            # A waiting final upload goes; the member that came in is complete.
            self._remove_finals(upload, all_of_them=what == "authorize complete")
        elif refused.request.creates:
            upload.is_gone = True
        elif upload.kind == FINAL:
            upload.is_gone = not what.startswith("authorize")
            self._restore(upload)
        elif what in ("validate", "inspect"):
            upload.is_gone = True
        elif what in ("verify", "authorize complete"):
            self._reopen(upload)
        else:
            self._restore()

    def _remove_finals(self, member: Known, *, all_of_them: bool) -> None:
        refused = [one for one in member.finals if one.is_complete]
        for final in refused if all_of_them else refused[:1]:
            final.is_gone = True

    def _reopen(self, upload: Known) -> None:
        upload.is_complete = False
        for final in upload.finals:
            self._restore(final)

    def _restore(self, *chosen: Known) -> None:
        for known in chosen or tuple(self._saved):
            saved = self._saved[known]
            for name in ("length", "content", "is_inspected", "is_complete"):
                setattr(known, name, getattr(saved, name))

    def rewind_final(self, *, keep_bytes: bool) -> None:
        """A process died while it made the final upload, or verified it."""
        assert self.site is not None
        self.site.blueprint.turn()
        final = self.uploads["final 0"]
        final.is_complete = False
        if not keep_bytes:
            final.content, final.is_inspected = b"", False

    # -- comparison -------------------------------------------------------------------

    def _learn_url(self, request: Request, response: TestResponse) -> None:
        if not request.creates or response.status_code not in (200, 201):
            return
        url = response.headers.get("Location") or (response.json or {})["url"]
        request.upload.url = urlsplit(str(url)).path

    def _compare(self, request: Request, noted: Notes, meant: Notes) -> None:
        wanted = self._asked(meant)
        for name in ("actions", "hooks", "signals"):
            there, right = getattr(noted, name), getattr(wanted, name)
            assert there == right, _difference(request, name, there, right)

    def _compare_refused(self, request: Request, noted: Notes, meant: Notes) -> None:
        """Nothing is asked that would not have been without the refusal."""
        wanted = self._asked(meant)
        for name in ("actions", "hooks"):
            there, right = getattr(noted, name), getattr(wanted, name)
            left = iter(right)
            in_order = all(note in left for note in there)
            assert in_order, _difference(request, name, there, right)

    def _asked(self, meant: Notes) -> Notes:
        """Without the hooks that this application has not."""
        assert self.site is not None
        overrides = self.site.blueprint.overrides
        return Notes(
            meant.actions if overrides("authorize") else [],
            [note for note in meant.hooks if overrides(note.hook)],
            meant.signals,
        )


def _with_files(data: Any) -> Any:
    """A form's bytes become its file; a form that was sent is used up."""
    if not isinstance(data, dict):
        return data
    return {
        name: (io.BytesIO(value), "name.bin") if isinstance(value, bytes) else value
        for name, value in data.items()
    }


def _difference(
    request: Request, name: str, there: Sequence[object], right: Sequence[object]
) -> str:
    sent = f"{request.method} {request.url} ({request.upload.kind}): {name}"
    lists = [list(map(str, one)) for one in (there, right)]
    return f"{sent}\n  are       {lists[0]}\n  should be {lists[1]}"


def _status_of(request: Request, refused: tuple[str, str | None]) -> int:
    """What a refused request is answered."""
    what, kind = refused
    if kind == FINAL and request.upload.kind != FINAL:
        # The member has its bytes, whatever becomes of its final upload.
        return request.expect
    if (what, request.method) == ("authorize complete", "HEAD") and kind == FINAL:
        # It only reads then.
        return request.expect
    return 403 if what.startswith("authorize") else REFUSED
