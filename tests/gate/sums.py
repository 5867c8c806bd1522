"""What owners' quotas must say, counted from the rows by hand, in one snapshot.

No statement of the package is used, so that both would have to be wrong alike.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from sqlalchemy import create_engine, make_url, text

UPLOADS = (
    'SELECT id, "user", status, partial, concat, length, "offset", reserved, '
    "completed_at, storage_key FROM chunked_upload"
)
MEMBERS = "SELECT final_id, partial_id FROM chunked_upload_member"
QUOTAS = "SELECT owner, uploads, size, stored FROM chunked_upload_quota"

#: Runs a statement in the snapshot.
Query = Callable[[str], list[Any]]


@dataclass
class Sums:
    """Of one owner: unfinished uploads, their bytes, and the bytes of files."""

    uploads: int = 0
    size: int = 0
    stored: int | None = 0


@dataclass
class Snapshot:
    """What the quota rows say, and what the rows of uploads say, at one moment.

    :param names: of members.
    :param strays: of those, names whose final upload and partial one are gone.
    """

    told: dict[str, Sums] = field(default_factory=dict)
    counted: dict[str, Sums] = field(default_factory=dict)
    names: int = 0
    strays: int = 0

    def differences(self) -> list[str]:
        """Owners whose quota does not say what their uploads say."""
        found = []
        for owner, told in self.told.items():
            counted = self.counted.get(owner, Sums())
            if told.stored is None:
                counted = Sums(counted.uploads, counted.size, None)
            if told != counted:
                found.append(f"{owner or '(no owner)'}: {told} is {counted}")
        return found


class Watch:
    """Takes snapshots of an app's database, on a connection of its own."""

    def __init__(self, app: Flask) -> None:
        self._url = make_url(app.config["SQLALCHEMY_DATABASE_URI"])

    def look(self) -> Snapshot:
        """One snapshot."""
        with self._snapshot() as query:
            uploads, members, quotas = query(UPLOADS), query(MEMBERS), query(QUOTAS)
        return _counted(uploads, members, quotas)

    @contextmanager
    def _snapshot(self) -> Iterator[Query]:
        if self._url.drivername.startswith("sqlite"):
            connection = sqlite3.connect(str(self._url.database), timeout=60)
            connection.isolation_level = None
            try:
                connection.execute("BEGIN")
                yield lambda statement: connection.execute(statement).fetchall()
            finally:
                connection.close()
            return
        engine = create_engine(self._url, isolation_level="REPEATABLE READ")
        try:
            with engine.connect() as there:
                yield lambda statement: list(there.execute(text(statement)))
        finally:
            engine.dispose()


def _counted(uploads: list[Any], members: list[Any], quotas: list[Any]) -> Snapshot:
    finals = {row[0]: row for row in uploads}
    named = {
        partial for final, partial in members if not _is_given_up(finals.get(final))
    }
    counted: dict[str, Sums] = defaultdict(Sums)
    for row in uploads:
        key, _, status, partial, _, _, offset, reserved, _, storage_key = row
        sums = counted[str(row[1] or "")]
        is_open = status in ("uploading", "completing")
        is_live = is_open or status == "complete"
        if partial and is_live and key in named:
            sums.stored = (sums.stored or 0) + (reserved or 0)
        elif (is_live and partial) or (is_open and not partial):
            sums.uploads += 1
            sums.size += reserved or 0
        elif status == "complete" and storage_key is not None:
            sums.stored = (sums.stored or 0) + offset
    told = {row[0]: Sums(*row[1:]) for row in quotas}
    strays = sum(f not in finals and p not in finals for f, p in members)
    return Snapshot(told, dict(counted), len(members), strays)


def _is_given_up(final: Any) -> bool:
    if final is None:
        # It was complete, and its name outlives it.
        return False
    return bool(final[2] == "expired")
