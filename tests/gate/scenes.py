"""Draws scenes: several requests in a row that few random ones would add up to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tests.dialects.tus import metadata
from tests.gate.draw_ranges import RangeDraw
from tests.gate.draw_tus import TusDraw
from tests.gate.picks import TUS
from tests.gate.requests import PREFIX, TUS_OCTETS, USER, Request
from tests.gate.rules import OWNERS
from tests.gate.uploads import PARTIAL, UPLOADING, Upload

#: Time that passes, and what happens then.
Act = tuple[timedelta, Callable[[], Request]]
#: Declared length of the partial uploads in a scene.
_SHORT = 20


class Scenes(TusDraw, RangeDraw):
    """A scene is its first request; the rest of it is in ``acts``."""

    acts: list[Act]

    def _crowd(self) -> Request:
        """Many final uploads in a row that wait for the same partial one."""
        waited = [one for one in self._partials() if one.status == UPLOADING]
        if not waited or self._model.rules.max_open is not None:
            return self._final()
        partial = self._rng.choice(waited)
        pairs = {"filename": self._name(), "title": "Crowded"}
        request = self._joining([partial], **pairs)
        count = self._rng.randrange(12)
        self.acts = [(timedelta(0), lambda: request)] * count
        return request

    def _vigil(self) -> Request:
        """A final upload and its members live by one another's activity."""
        owner = self._rng.choice(OWNERS)
        long = self._model.rules.idle * 0.6
        at_once = timedelta(0)

        def create() -> Request:
            headers = {**TUS, USER: owner, "Upload-Length": str(_SHORT)}
            headers["Upload-Concat"] = "partial"
            return Request("POST", f"{PREFIX}/", headers)

        def mine() -> list[Upload]:
            found = [one for one in self._partials() if one.length == _SHORT]
            return [one for one in found if one.user == owner][-2:]

        def join() -> Request:
            members = mine()
            return self._joining(members, title="Kept") if members else self._final()

        def touch() -> Request:
            members = mine()
            return self._touching(members[0]) if members else self._tus_patch()

        def look() -> Request:
            groups = [one for one in self._model.there() if one.waits]
            chosen = [*mine(), *groups[-1:]]
            if not chosen:
                return self._tus_patch()
            upload = self._rng.choice(chosen)
            if upload.kind == PARTIAL and self._is(0.3):
                return self._touching(upload)
            headers = {**TUS, **self._who(upload)}
            return Request(
                self._rng.choice(["HEAD", "GET", "DELETE"]),
                self._path(upload),
                headers,
            )

        self.acts = [
            (at_once, create),
            (at_once, join),
            (long, touch),
            (long, look),
            (at_once, look),
            (long, look),
        ]
        return create()

    def _partials(self) -> list[Upload]:
        return [one for one in self._model.there() if one.kind == PARTIAL]

    def _joining(self, members: list[Upload], **pairs: str) -> Request:
        urls = " ".join(str(one.id) for one in members)
        headers = {**TUS, "Upload-Concat": f"final;{urls}"}
        if members[0].user is not None:
            headers[USER] = members[0].user
        headers["Upload-Metadata"] = metadata(**pairs)
        return Request("POST", f"{PREFIX}/", headers)

    def _touching(self, upload: Upload) -> Request:
        headers = {**TUS, **self._who(upload), "Content-Type": TUS_OCTETS}
        headers["Upload-Offset"] = str(upload.offset)
        return Request("PATCH", self._path(upload), headers, b"b")
