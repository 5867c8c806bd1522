"""Lists, counts and quotas read their owner's rows, however many others there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.engine.records import Cutoff

from ..apps import dispose, make_app, registered
from ..crowds import add_crowd, settle, watched
from ..figures import size
from ..postgres import as_setting, new_database, running_server

OWNER_INDEX = "ix_chunked_upload_owner"
BY_PARTIAL = "ix_chunked_upload_member_partial_id"
#: Has everyone's uploads of a status together.
BY_OTHERS = {"ix_chunked_upload_activity"}
#: Uploads of the owner who asks, half of them complete.
OWN = 40
FEW = 10
RECENT, LONG_AGO = timedelta(hours=2), timedelta(days=60)


class Named(ChunkedUploadBlueprint):
    """The caller is who a header says; what is unfinished counts."""

    max_open_uploads = 1000

    def get_user_id(self) -> object:
        return request.headers.get("X-User", "ann")


def make(tmp_path: Path, others: int, age: timedelta, **options: Any) -> Flask:
    """An app with some uploads of ann's and very many of others'."""
    place = tmp_path / f"{others}"
    place.mkdir()
    app = make_app(place, blueprint_class=Named, db=SQLAlchemy(), **options)
    add_crowd(app, others, "CASE WHEN mod10 = 0 THEN 'u' || i ELSE 'bob' END", age=age)
    add_crowd(app, OWN, "'ann'", age=RECENT)
    settle(app)
    return app


def get(query: str) -> Callable[[Flask, FlaskClient], object]:
    def act(app: Flask, client: FlaskClient) -> object:
        answer = client.get(f"/uploads/{query}")
        assert answer.status_code == 200, answer.text
        return len(answer.get_json())

    return act


def follow(app: Flask, client: FlaskClient) -> object:
    url = "/uploads/?status=all&per_page=15"
    found = 0
    while url:
        answer = client.get(url)
        found += len(answer.get_json())
        url = answer.headers.get("Link", "").partition(">")[0][1:]
    return found


def recount(app: Flask, client: FlaskClient) -> object:
    here = registered(app)
    assert here.quotas is not None
    with app.app_context(), here.database.transaction() as connection:
        here.quotas.start_counting(connection, "ann")
    return None


def make_room(app: Flask, client: FlaskClient) -> object:
    here = registered(app)
    cutoff = Cutoff(datetime.now(timezone.utc) - timedelta(days=1), None)
    with app.app_context():
        return list(here.repository.expirable_of("ann", cutoff))


def members(app: Flask, client: FlaskClient) -> object:
    """What a partial upload asks when it is complete, and when it goes."""
    here = registered(app)
    values = {"upload_id": uuid4()}
    with app.app_context(), here.database.transaction() as connection:
        finals = connection.execute(here.members.waiting, values).all()
        rows = connection.execute(here.members.rows, values).all()
        here.members.drop_partial(connection, values["upload_id"])
    return [*finals, *rows]


READS: dict[str, tuple[Callable[[Flask, FlaskClient], object], object]] = {
    "pending": (get(""), 20),
    "complete": (get("?status=complete"), 20),
    "all": (get("?status=all"), 40),
    "last-page": (get("?status=all&page=100"), 0),
    "page-by-number": (get("?status=all&page=3&per_page=10"), 10),
    "cursor": (follow, 40),
    "count": (get("?status=all&count=1&per_page=1"), 1),
    "count-pending": (get("?count=1&per_page=1"), 1),
    "partials": (get("?partial=1&status=all&count=1"), 0),
    "recount": (recount, None),
    "make-room": (make_room, []),
}


# -- SQLite, in each change ------------------------------------------------------------


@pytest.fixture(scope="module", params=[RECENT, LONG_AGO], ids=["live", "expired"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Flask, Flask]]:
    """An app with few uploads of others, and one with some thousand."""
    tmp_path = tmp_path_factory.mktemp("owners")
    apps = (make(tmp_path, FEW, request.param), make(tmp_path, 4000, request.param))
    yield apps
    for app in apps:
        dispose(app)


@pytest.mark.sqlite
@pytest.mark.parametrize(("act", "wanted"), READS.values(), ids=READS)
def test_rows_of_others_are_not_read(
    pair: tuple[Flask, Flask],
    act: Callable[[Flask, FlaskClient], object],
    wanted: object,
) -> None:
    read = []
    for app in pair:
        with watched(app) as reading:
            assert act(app, app.test_client()) == wanted
        assert OWNER_INDEX in reading.indexes
        assert reading.indexes & BY_OTHERS == set()
        assert reading.scans == set()
        read.append(reading.rows)
    assert read[0] == read[1] > 0


@pytest.mark.sqlite
def test_waiting_finals_are_found_by_their_members(pair: tuple[Flask, Flask]) -> None:
    read = []
    for app in pair:
        with watched(app) as reading:
            assert members(app, app.test_client()) == []
        assert BY_PARTIAL in reading.indexes
        assert reading.indexes & BY_OTHERS == set()
        assert reading.scans == set()
        read.append(reading.rows)
    assert read[0] == read[1] > 0


@pytest.mark.sqlite
@pytest.mark.parametrize("pair", [RECENT], indirect=True, ids=["live"])
@pytest.mark.parametrize("query", ["", "status=all", "status=complete"])
def test_page_reads_no_more_of_its_owner_than_it_shows(
    pair: tuple[Flask, Flask], query: str
) -> None:
    client = pair[1].test_client()
    read = []
    for owner in ("ann", "bob"):
        with watched(pair[1]) as reading:
            answer = client.get(
                f"/uploads/?per_page=5&{query}", headers={"X-User": owner}
            )
        assert len(answer.get_json()) == 5
        read.append(reading.rows)
    assert read[0] == read[1]


@pytest.mark.sqlite
def test_count_reads_the_index_alone(pair: tuple[Flask, Flask]) -> None:
    """Three steps of SQLite's machine for each entry; a look at the row is more."""
    app = pair[1]
    client = app.test_client()
    headers = {"X-User": "bob"}
    with watched(app) as one:
        client.get("/uploads/?status=complete&per_page=1", headers=headers)
    with watched(app) as both:
        answer = client.get(
            "/uploads/?status=complete&per_page=1&count=1", headers=headers
        )
    count = int(answer.headers["X-Total-Count"])
    assert count > 1500
    assert both.rows - one.rows < 3 * count + 100


# -- many more, and PostgreSQL ---------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def large_pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Flask, Flask]]:
    """Few uploads of others, and as many as the tier wants."""
    tmp_path = tmp_path_factory.mktemp("owners")
    others = size("OWNER_ROWS", 50_000, 1_000_000)
    if request.param == "sqlite":
        apps = (make(tmp_path, FEW, RECENT), make(tmp_path, others, RECENT))
        yield apps
        for app in apps:
            dispose(app)
        return
    with running_server() as server:
        few, many = (as_setting(new_database(server)) for _ in range(2))
        # A table of one page is read whole, unless that is forbidden.
        few += "&options=-c%20enable_seqscan%3Doff"
        apps = (
            make(tmp_path, FEW, RECENT, SQLALCHEMY_DATABASE_URI=few),
            make(tmp_path, others, RECENT, SQLALCHEMY_DATABASE_URI=many),
        )
        yield apps
        for app in apps:
            dispose(app)


ALL_READS = {**READS, "waiting-finals": (members, [])}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(("act", "wanted"), ALL_READS.values(), ids=ALL_READS)
def test_reads_are_the_same_among_very_many(
    large_pair: tuple[Flask, Flask],
    act: Callable[[Flask, FlaskClient], object],
    wanted: object,
) -> None:
    read = []
    for app in large_pair:
        with watched(app) as reading:
            assert act(app, app.test_client()) == wanted
        assert reading.scans <= {"chunked_upload_member"}
        read.append(reading.rows)
    # PostgreSQL takes any index of a table of one page, and for what is older than
    # anything there is, the one that says so.
    if act is not make_room:
        assert (BY_PARTIAL if act is members else OWNER_INDEX) in reading.indexes
    assert read[1] <= read[0]
    few, many = medians(large_pair, act)
    assert many < 1.5 * few, (few, many)


#: Seconds, of the owner with nine tenths of all rows.
LIMIT = 0.2
#: PostgreSQL may read a table from end to end that is nearly all one owner's.
LIMIT_OF_WHOLE_TABLE = 1.0
LARGEST = {
    "first-page": "?status=all",
    "pending": "",
    "last-page": "?status=all&page=100",
    "count": "?status=all&count=1&per_page=1",
}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", LARGEST)
def test_owner_with_most_uploads_waits_no_longer_than_others(
    large_pair: tuple[Flask, Flask], name: str
) -> None:
    app = large_pair[1]
    client = app.test_client()
    is_sqlite = app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite")

    def act() -> None:
        answer = client.get(f"/uploads/{LARGEST[name]}", headers={"X-User": "bob"})
        assert answer.status_code == 200

    with watched(app) as reading:
        act()
    if name in ("first-page", "pending") and not is_sqlite:
        assert reading.rows < 1000
    # SQLite works in this process, so that what else the machine does need not count.
    clock = time.process_time if is_sqlite else time.perf_counter
    limit = LIMIT_OF_WHOLE_TABLE if (name, is_sqlite) == ("count", False) else LIMIT
    assert min(timed(act, clock) for _ in range(9)) < limit


def medians(
    apps: tuple[Flask, Flask], act: Callable[[Flask, FlaskClient], object]
) -> list[float]:
    """Median seconds in each app, in turn, so that both meet the same noise."""
    times: list[list[float]] = [[], []]
    clients = [app.test_client() for app in apps]
    for _ in range(31):
        for app, client, found in zip(apps, clients, times, strict=True):
            found.append(timed(partial(act, app, client)))
    return [sorted(found)[len(found) // 2] for found in times]


def timed(
    act: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    start = clock()
    act()
    return clock() - start
