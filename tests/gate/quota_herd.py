"""Driver: clients in processes of their own do all that quotas count, some are killed.

``python -m tests.gate.quota_herd DIRECTORY [--database URL] [--free]`` looks at quotas
and uploads in one snapshot after the other meanwhile, and ends with 1 and a list where
a quota was wrong at any moment, or where a limit was passed.
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import Flask, request
from sqlalchemy import update
from werkzeug.test import TestResponse

from flask_chunked import ChunkedUploadBlueprint, check, delete_expired
from flask_chunked.database.transactions import BUSY_TIMEOUT
from flask_chunked.engine.records import Upload
from flask_chunked.exceptions import ChunkedUploadError, DatabaseUnavailable
from tests.apps import dispose, make_app, registered
from tests.dialects.tus import Tus, checksum
from tests.faults.herd import Child, Report

from .sums import Watch

OWNERS = ("ann", "ben")
MOST = {"uploads": 6, "size": 120, "all": 300}
LIMITS: Mapping[str, Any] = {
    "CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": MOST["uploads"],
    "CHUNKED_UPLOAD_MAX_TOTAL_BYTES": MOST["size"],
    "CHUNKED_UPLOAD_MAX_STORED_BYTES": MOST["all"],
    "CHUNKED_UPLOAD_MAX_BYTES": 20,
    "CHUNKED_UPLOAD_EXPIRATION_DELTA": timedelta(days=1),
    # So that final uploads have members of several owners.
    "CHUNKED_UPLOAD_USER_RESTRICTED": False,
}
#: Refusals that a client may be told.
REFUSALS = {400, 403, 404, 409, 410, 413, 422, 423, 429, 460}


class Picky(ChunkedUploadBlueprint):
    """The owner is whom a header names; some files are refused when they are there."""

    def get_user_id(self) -> Any:
        return request.headers.get("X-User")

    def verify(self, upload: Any) -> None:
        if upload.filename == "bad":
            raise ChunkedUploadError("not this file")


class Actor:
    """One client, and what it may do.

    :param free: it also gives up unfinished final uploads, behind which their members
        count again; limits are passed then.
    """

    def __init__(self, app: Flask, number: int, seed: int, *, free: bool) -> None:
        self.chance = random.Random(f"{seed} {number}")
        self.codes: Counter[str] = Counter()
        self._app = app
        self._free = free
        engine = registered(app).database.engine
        with app.app_context():
            self._is_sqlite = engine().dialect.name == "sqlite"
        self._tus = Tus(app.test_client())
        self._tus.client.environ_base["HTTP_X_USER"] = OWNERS[number % len(OWNERS)]
        self._acts: list[tuple[int, Callable[[], TestResponse | None]]] = [
            (3, self._create),
            (1, self._fail_to_create),
            (4, self._create_partial),
            (3, self._concatenate),
            (6, self._append),
            (2, self._declare),
            (4, self._delete),
            (1, self._move),
            (1 if free else 0, self._expire),
        ]

    def act(self) -> str | None:
        """Do something; what went wrong, if anything did."""
        weights = [weight for weight, _ in self._acts]
        (act,) = self.chance.choices([act for _, act in self._acts], weights)
        began = time.monotonic()
        try:
            answer = act()
        except DatabaseUnavailable:
            code, said = 503, ""
        else:
            if answer is None:
                return None
            code, said = answer.status_code, answer.text
        self.codes[str(code)] += 1
        waited = time.monotonic() - began
        # Others may write for long, but a lock that waiting does not give is a fault.
        is_patient = code == 503 and self._is_sqlite and waited > BUSY_TIMEOUT - 1
        if code >= 300 and code not in REFUSALS and not is_patient:
            return f"{act.__name__}: {code} after {waited:.1f} s: {said}"
        return None

    def _rows(self, *wanted: str) -> list[Upload]:
        with self._app.app_context():
            found = list(registered(self._app).repository.matching())
        return [row for row in found if not wanted or row.status.value in wanted]

    def _one(self, *wanted: str) -> Upload | None:
        found = self._rows(*wanted)
        return self.chance.choice(found) if found else None

    def _length(self) -> dict[str, str]:
        if self.chance.random() < 0.3:
            return {"Upload_Defer_Length": "1"}
        return {"Upload_Length": str(self.chance.randint(1, 20))}

    def _create(self) -> TestResponse:
        bad = {"Upload_Metadata": "filename YmFk"} if self.chance.random() < 0.2 else {}
        return self._tus.post(b"a", **self._length(), **bad)

    def _fail_to_create(self) -> TestResponse:
        wrong = checksum("md5", b"other")
        return self._tus.post(b"abc", Upload_Length="9", Upload_Checksum=wrong)

    def _create_partial(self) -> TestResponse:
        if self.chance.random() < 0.5:
            return self._tus.post(b"ab", Upload_Length="2", Upload_Concat="partial")
        return self._tus.post(b"a", **self._length(), Upload_Concat="partial")

    def _concatenate(self) -> TestResponse | None:
        partials = [row for row in self._rows() if row.partial]
        if not partials:
            return None
        members = self.chance.choices(partials, k=self.chance.randint(1, 3))
        bad = {"Upload_Metadata": "filename YmFk"}
        is_bad = self._free and self.chance.random() < 0.2
        urls = [f"/uploads/{one.id}" for one in members]
        return self._tus.final(*urls, **(bad if is_bad else {}))

    def _append(self) -> TestResponse | None:
        row = self._one("uploading")
        if row is None:
            return None
        rest = b"x" * ((row.length or 20) - row.offset)
        if self.chance.random() < 0.5:
            rest = rest[: self.chance.randint(0, len(rest))]
        return self._tus.patch(f"/uploads/{row.id}", row.offset, rest)

    def _declare(self) -> TestResponse | None:
        late = [row for row in self._rows("uploading") if row.length is None]
        if not late:
            return None
        row = self.chance.choice(late)
        length = str(min(20, row.offset + self.chance.randint(0, 5)))
        return self._tus.patch(f"/uploads/{row.id}", row.offset, Upload_Length=length)

    def _delete(self) -> TestResponse | None:
        row = self._one()
        if row is None:
            return None
        is_final = row.concat is not None and not row.partial
        if is_final and not row.is_complete and not self._free:
            return None
        return self._tus.delete(f"/uploads/{row.id}")

    def _move(self) -> None:
        files = [row for row in self._rows("complete") if not row.partial]
        if not files:
            return
        blueprint: Any = self._app.blueprints["uploads"]
        target = Path(self._app.instance_path).parent / "moved" / uuid4().hex
        target.parent.mkdir(exist_ok=True)
        with self._app.app_context():
            try:
                blueprint.move(self.chance.choice(files), target)
            except ChunkedUploadError as error:
                self.codes[error.code] += 1

    def _expire(self) -> None:
        row, here = self._one(), registered(self._app)
        if row is None:
            return
        c = here.table.c
        old = datetime.now(timezone.utc) - timedelta(days=3)
        with self._app.app_context():
            with here.database.transaction() as connection:
                statement = update(here.table).where(c.id == row.id)
                connection.execute(statement.values(last_activity_at=old))
            delete_expired()


class Herd:
    """The clients' processes, and what was seen of their quotas."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        database = options.database
        url: dict[str, Any] = (
            {} if database is None else {"SQLALCHEMY_DATABASE_URI": database}
        )
        self._app = make_app(options.directory, blueprint_class=Picky, **LIMITS, **url)
        dispose(self._app)
        self.problems: list[str] = []
        self.codes: Counter[str] = Counter()
        self.looks = 0
        self.kills = 0

    def run(self) -> None:
        """Until each client has done its part."""
        clients, kills = self._options.clients, self._options.kills
        chance = random.Random(self._options.seed)
        children = [self._child(number) for number in range(clients)]
        number = clients
        watch = Watch(self._app)
        while any(child.status is None for child in children):
            self._look(watch)
            for at, child in enumerate(children):
                if child.status is None:
                    self._hear(child.messages())
                if (
                    child.status is None
                    and self.kills < kills
                    and chance.random() < 0.02
                ):
                    self._hear(child.kill())
                    self.kills += 1
                    children[at] = self._child(number)
                    number += 1
            self._reap(children)
        self._look(watch)
        self._end()

    def _child(self, number: int) -> Child:
        return Child(lambda report: self._work(number, report))

    def _work(self, number: int, report: Report) -> None:
        logging.getLogger("flask_chunked").setLevel(logging.CRITICAL)
        actor = Actor(self._app, number, self._options.seed, free=self._options.free)
        for done in range(self._options.acts):
            problem = actor.act()
            if problem is not None:
                report.send("problem", problem)
            if done % 20 == 0:
                report.send("alive")
        report.send("codes", dict(actor.codes))

    def _hear(self, messages: Sequence[list[Any]]) -> None:
        for kind, *values in messages:
            if kind == "codes":
                self.codes.update(values[0])
            elif kind != "alive":
                self.problems.append(str(values))

    def _reap(self, children: list[Child]) -> None:
        for child in children:
            if child.status is None and child.has_ended():
                self._hear(child.join())
                if child.status not in (0, -signal.SIGKILL):
                    self.problems.append(f"a client ended with {child.status}")

    def _look(self, watch: Watch) -> None:
        snapshot = watch.look()
        self.looks += 1
        self.problems += snapshot.differences()
        for owner, sums in snapshot.told.items():
            total = sums.size + (sums.stored or 0)
            passed = total > MOST["all"]
            if not self._options.free:
                passed |= sums.uploads > MOST["uploads"] or sums.size > MOST["size"]
            if passed:
                self.problems.append(f"{owner} passed a limit: {sums}")

    def _end(self) -> None:
        """Nothing is left to mend but what was killed."""
        with self._app.app_context():
            found = [one for one in check() if one.kind == "quota"]
            self.problems += map(str, found)
        strays = Watch(self._app).look().strays
        if strays:
            self.problems.append(f"{strays} names of members whose both ends are gone")
        dispose(self._app)


def main() -> int:
    """Run the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--database", help="URL; default: a SQLite file")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--acts", type=int, default=50, help="of each client")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--free", action="store_true", help="unfinished final uploads are given up, too"
    )
    options = parser.parse_args()
    began = time.monotonic()
    herd = Herd(options)
    herd.run()
    seconds = time.monotonic() - began
    print(
        f"{dict(herd.codes)}, {herd.kills} kills, {herd.looks} looks, {seconds:.0f} s"
    )
    for problem in herd.problems[:40]:
        print(problem)
    return 1 if herd.problems else 0


if __name__ == "__main__":
    sys.exit(main())
