"""Uploads of every kind in every state, each brought there as it would come about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import request
from sqlalchemy import select, update

from flask_chunked import delete_expired
from tests.apps import rows, stop_clock, stored_files
from tests.dialects.tus import Tus
from tests.exchange import id_of, md5, put_raw
from tests.gate.recorder import (
    FINAL,
    ORDINARY,
    PARTIAL,
    Crash,
    Recorder,
    Refusal,
    Site,
    policy,
)

CONTENT = b"abcdef"
HALF = len(CONTENT) // 2
OWNER, STRANGER = "ann", "bob"
#: Longer than an upload lives without activity.
AGES = timedelta(days=2)
#: Longer than a process that verifies may be silent.
SILENCE = timedelta(seconds=90)
#: Longer than a final upload may lie without anyone making it.
IDLE = timedelta(seconds=15)


def _named(_: Recorder) -> str | None:
    return request.headers.get("X-User")


NAMED = policy(("authorize", "inspect", "verify"), get_user_id=_named)


@dataclass(frozen=True, slots=True)
class Subject:
    """An upload, and what a request about it has to say.

    :param offset: bytes of it, as its client knows.
    """

    url: str
    offset: int

    @property
    def id(self) -> UUID:
        """Its id."""
        return id_of(self.url)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is stored at one moment."""

    rows: list[dict[str, Any]]
    files: Mapping[str, bytes]


class Stand:
    """An app in which uploads are brought into a state, again and again."""

    def __init__(self, tmp_path: Path) -> None:
        self.site = Site(tmp_path, NAMED, CHUNKED_UPLOAD_DOWNLOADS=True)
        self.client = self.site.app.test_client()
        self.client.environ_base["HTTP_X_USER"] = OWNER
        self.tus = Tus(self.client)
        table = self.site.here.table
        self._all_rows = select(table).order_by(table.c.id)
        self._removed: dict[str, Any] = {}
        self.now = datetime.now(timezone.utc)
        stop_clock(self.site.app, self.now)

    # -- means ------------------------------------------------------------------------

    def advance(self, time: timedelta) -> None:
        """Let time pass."""
        self.now += time
        stop_clock(self.site.app, self.now)

    def stop_at(self, what: str, kind: str, error: BaseException | None = None) -> None:
        """The next request is refused, or dies, where it asks this."""
        self.site.blueprint.turn()
        self.site.blueprint.refusal = Refusal(what, kind=kind, error=error)

    def turn(self) -> None:
        """The next request meets no refusal."""
        self.site.blueprint.turn()
        self.site.blueprint.refusal = self.site.blueprint.refused = None

    def set(self, url: str, **values: Any) -> None:
        """Change a row, as a process did that is no more."""
        model = self.site.here.model
        with self.site.app.app_context():
            db = self.site.here.db
            db.session.execute(
                update(model).where(model.id == id_of(url)).values(**values)
            )
            db.session.commit()

    def row(self, url: str) -> Any:
        """The row as it is, or was when the upload was removed."""
        if url in self._removed:
            return self._removed[url]
        (row,) = (row for row in rows(self.site.app) if row.id == id_of(url))
        return row

    # -- beginnings -------------------------------------------------------------------

    def ordinary(self, size: int) -> str:
        """An ordinary upload with so many bytes; without any, tus creates it."""
        if not size:
            return self.tus.create(len(CONTENT))
        answer = put_raw(self.client, CONTENT[:size], total=len(CONTENT))
        return str(answer.json["url"]).removeprefix("http://localhost")  # type: ignore[index]

    def partial(self, size: int) -> str:
        """A partial upload with so many bytes."""
        return self.tus.partial(CONTENT[:size], len(CONTENT))

    def terminated(self, url: str) -> str:
        """The upload is removed."""
        self._removed[url] = self.row(url)
        assert self.client.delete(url).status_code == 204
        return url

    def waiting(self) -> tuple[str, str]:
        """A final upload, and the member whose last half it waits for."""
        a = self.tus.partial(CONTENT[:HALF])
        b = self.tus.partial(b"", len(CONTENT) - HALF)
        answer = self.tus.final(a, b)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"], b

    def half_made(self) -> str:
        """A final upload whose maker died after the first of its members."""
        return self._died_over_final("inspect")

    def made(self) -> str:
        """A final upload all of whose bytes are there; its maker died in ``verify``."""
        return self._died_over_final("verify")

    def _died_over_final(self, hook: str) -> str:
        final, member = self.waiting()
        self.stop_at(hook, FINAL, Crash())
        with pytest.raises(Crash):
            self.tus.patch(member, 0, CONTENT[HALF:])
        self.turn()
        return final

    def died_verifying(self) -> str:
        """An ordinary upload all of whose bytes are there."""
        url = self.ordinary(len(CONTENT))
        self.stop_at("verify", ORDINARY, Crash())
        with pytest.raises(Crash):
            self.tus.head(url)
        self.turn()
        return url

    def finished(self, url: str) -> str:
        """By the checksum."""
        answer = self.client.post(url, data={"md5": md5(CONTENT)})
        assert answer.status_code == 200, answer.text
        return url

    def moved(self, url: str) -> str:
        """The application took the file away."""
        destination = self.site.tmp_path / f"moved-{id_of(url)}"
        with self.site.app.app_context():
            self.site.blueprint.move(self.row(url), destination)
        return url

    def expired(self, url: str, *, kept: bool = False) -> str:
        """Its time is over; its record says so, if it is ``kept``."""
        self.advance(AGES)
        if kept:
            with self.site.app.app_context():
                delete_expired(keep_records=True)
        return url

    # -- what is compared -------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Every row and every byte."""
        here = self.site.here
        with self.site.app.app_context(), here.database.transaction() as connection:
            found = connection.execute(self._all_rows).mappings().all()
        files = stored_files(self.site.tmp_path)
        stored = {path.name: path.read_bytes() for path in files}
        return Snapshot([dict(row) for row in found], stored)


#: Brings an upload into a state; its URL.
State = Callable[[Stand], str]


# -- states --------------------------------------------------------------------------


def _ordinary_states() -> dict[str, State]:
    whole = len(CONTENT)
    return {
        "empty": lambda s: s.ordinary(0),
        "half": lambda s: s.ordinary(HALF),
        "full": lambda s: s.ordinary(whole),
        "dead": _verifying(Stand.died_verifying, SILENCE),
        "busy": _verifying(Stand.died_verifying),
        "done": lambda s: s.finished(s.ordinary(whole)),
        "moved": lambda s: s.moved(s.finished(s.ordinary(whole))),
        "late": lambda s: s.expired(s.ordinary(HALF)),
        "gone": lambda s: s.expired(s.ordinary(HALF), kept=True),
        "removed": lambda s: s.terminated(s.ordinary(HALF)),
    }


def _partial_states() -> dict[str, State]:
    whole = len(CONTENT)
    return {
        "empty": lambda s: s.partial(0),
        "half": lambda s: s.partial(HALF),
        "full": _not_completed,
        "dead": _with(_not_completed, status="completing"),
        "done": lambda s: s.partial(whole),
        "late": lambda s: s.expired(s.partial(HALF)),
        "stale": lambda s: s.expired(s.partial(whole)),
        "gone": lambda s: s.expired(s.partial(whole), kept=True),
        "removed": lambda s: s.terminated(s.partial(HALF)),
    }


def _final_states() -> dict[str, State]:
    def waiting(stand: Stand) -> str:
        return stand.waiting()[0]

    def done(stand: Stand) -> str:
        final, member = stand.waiting()
        stand.tus.patch(member, 0, CONTENT[HALF:])
        return final

    return {
        "waiting": waiting,
        "half": Stand.half_made,
        "full": _with(Stand.made, status="uploading"),
        "idle": _silent(Stand.half_made),
        "dead": _verifying(Stand.made, SILENCE),
        "busy": _verifying(Stand.made),
        "done": done,
        "moved": lambda s: s.moved(done(s)),
        "late": lambda s: s.expired(waiting(s)),
        "gone": lambda s: s.expired(waiting(s), kept=True),
        "removed": lambda s: s.terminated(waiting(s)),
    }


def _not_completed(stand: Stand) -> str:
    """All bytes are there; the caller was not allowed to complete the upload."""
    url = stand.partial(HALF)
    stand.stop_at("authorize complete", PARTIAL)
    assert stand.tus.patch(url, HALF, CONTENT[HALF:]).status_code == 403
    stand.turn()
    return url


def _with(begin: State, **values: Any) -> State:
    def make(stand: Stand) -> str:
        url = begin(stand)
        stand.set(url, **values)
        return url

    return make


def _silent(begin: State) -> State:
    def make(stand: Stand) -> str:
        url = begin(stand)
        stand.advance(IDLE)
        return url

    return make


def _verifying(begin: State, silent_for: timedelta = timedelta(0)) -> State:
    """A process verifies the upload, and was last heard of so long ago."""

    def make(stand: Stand) -> str:
        url = begin(stand)
        stand.set(url, status="completing", verify_started_at=stand.now)
        stand.advance(silent_for)
        return url

    return make


STATES: Mapping[str, Mapping[str, State]] = {
    ORDINARY: _ordinary_states(),
    PARTIAL: _partial_states(),
    FINAL: _final_states(),
}
