"""What one owner may have unfinished: taken, given back, counted anew, raced for."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from sqlalchemy import inspect, update
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ConfigurationError,
    check,
    delete_expired,
)
from flask_chunked.config.settings import Settings
from flask_chunked.database.table_definitions import QUOTA_TABLE
from flask_chunked.exceptions import Superseded
from tests.dialects.tus import CHUNKED, Tus, checksum
from tests.faults.ground import Ground, append_streamed, content
from tests.figures import figure, run_seed

from ..aging import age_row, set_row
from ..apps import registered, rows, stored_files
from ..conftest import AppFactory
from ..exchange import begin, detail, finish, id_of, post_whole, put_form, put_raw
from ..postgres import as_setting, new_database, running_server

#: Rounds of the race in which everybody begins at once.
ROUNDS = figure("QUOTA_ROUNDS", 20, 500)
#: The number of all actions of the concurrent clients.
ACTS = figure("QUOTA_ACTS", 400, 20_000)
#: The same of the fast tier.
SAMPLE_ROUNDS, SAMPLE_ACTS = 6, 120
HERD = 8


class Named(ChunkedUploadBlueprint):
    """The owner is whom a header names."""

    def get_user_id(self) -> Any:
        return request.headers.get("X-User")


def counted(app: Flask) -> dict[str, tuple[int, int]]:
    """What the quota rows say: owner -> uploads, bytes."""
    here = registered(app)
    assert here.quotas is not None
    table = here.quotas.table
    with app.app_context(), here.database.transaction() as connection:
        found = connection.execute(table.select()).all()
    return {row.owner: (row.uploads, row.size) for row in found}


def limited(app_factory: AppFactory, **config: Any) -> Flask:
    return app_factory(CHUNKED_UPLOAD_DOWNLOADS=True, **config)


# -- how many --------------------------------------------------------------------------


def first_raw(client: FlaskClient) -> TestResponse:
    return put_raw(client, b"abc", total=6)


def first_form(client: FlaskClient) -> TestResponse:
    return put_form(client, b"abc", total=6)


def whole(client: FlaskClient) -> TestResponse:
    return post_whole(client, b"abc")


def tus_creation(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Length="6")


def tus_checked(client: FlaskClient) -> TestResponse:
    right = checksum("sha1", b"abc")
    return Tus(client).post(b"abc", Upload_Length="6", Upload_Checksum=right)


def tus_deferred(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Defer_Length="1")


CREATIONS = [first_raw, first_form, whole, tus_creation, tus_checked, tus_deferred]


@pytest.mark.parametrize("create", CREATIONS)
def test_one_upload_too_many_is_429(
    app_factory: AppFactory,
    tmp_path: Path,
    create: Callable[[FlaskClient], TestResponse],
) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2)
    client = app.test_client()
    urls = [begin(client, b"abc", 6) for _ in range(2)]
    answer = create(client)
    assert answer.status_code == 429
    assert "You have 2 unfinished uploads" in answer.text
    assert len(rows(app)) == len(stored_files(tmp_path)) == 2
    assert client.delete(urls[0]).status_code == 204
    assert create(client).status_code in (200, 201)


@pytest.mark.parametrize("end", ["complete", "delete", "expire", "refuse"])
def test_an_upload_that_ends_is_subtracted_once(
    app_factory: AppFactory, end: str
) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2)
    client = app.test_client()
    url, other = begin(client, b"abc", 3), begin(client, b"abcd", 4)
    assert counted(app) == {"": (2, 7)}
    if end == "complete":
        for _ in range(2):
            assert finish(client, url, b"abc").status_code == 200
    elif end == "delete":
        assert client.delete(url).status_code == 204
        assert client.delete(url).status_code == 404
    elif end == "expire":
        age_row(app, id_of(url))
        with app.app_context():
            delete_expired(keep_records=True)
            delete_expired()
    else:
        assert finish(client, url, b"wrong").status_code == 400
        assert counted(app) == {"": (2, 7)}
        return
    assert counted(app) == {"": (1, 4)}
    # A finished upload that goes was given back when it was finished.
    client.delete(url)
    assert counted(app) == {"": (1, 4)}
    client.delete(other)
    assert counted(app) == {"": (0, 0)}


def test_an_interrupted_removal_is_subtracted_once(app_factory: AppFactory) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2)
    client = app.test_client()
    url = begin(client, b"abc", 3)
    begin(client, b"abc", 3)
    with app.app_context():
        here = registered(app)
        here.repository.terminate(id_of(url), here.engine.clock())
        assert counted(app) == {"": (1, 3)}
        kinds = [finding.kind for finding in check(repair=True)]
    assert kinds == ["half-removed"]
    assert counted(app) == {"": (1, 3)}


def test_a_creation_that_fails_takes_nothing(app_factory: AppFactory) -> None:
    class Picky(ChunkedUploadBlueprint):
        def inspect(self, upload: Any, head: bytes) -> None:
            raise ValueError

    app = app_factory(
        blueprint_class=Picky,
        CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1,
        PROPAGATE_EXCEPTIONS=False,
    )
    client = app.test_client()
    assert post_whole(client, b"abc").status_code == 500
    assert put_raw(client, b"abc", total=3).status_code == 500
    assert counted(app) == {"": (0, 0)}


def test_uploads_that_only_wait_to_expire_make_room(app_factory: AppFactory) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1)
    client = app.test_client()
    old = begin(client, b"abc", 6)
    assert put_raw(client, b"abc", total=6).status_code == 429
    age_row(app, id_of(old))
    new = begin(client, b"abc", 6)
    assert [row.id for row in rows(app)] == [id_of(new)]
    assert counted(app) == {"": (1, 6)}


class Unreadable(io.RawIOBase):
    """A body that must not be read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise AssertionError("the body was read")


@pytest.mark.parametrize("kind", ["raw", "form", "whole", "tus"])
def test_it_is_refused_before_the_body_is_read(
    app_factory: AppFactory, kind: str
) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1)
    client = app.test_client()
    begin(client, b"abc", 6)
    headers = {"Content-Range": "bytes 0-99/100"}
    if kind in ("form", "whole"):
        headers["Content-Type"] = "multipart/form-data; boundary=x"
    if kind == "whole":
        del headers["Content-Range"]
    if kind == "tus":
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "100",
            "Upload-Checksum": checksum("md5", b""),
            "Content-Type": "application/offset+octet-stream",
        }
    answer = client.open(
        "/uploads/",
        method="PUT" if kind in ("raw", "form") else "POST",
        headers=headers,
        environ_overrides={"CONTENT_LENGTH": "100", "wsgi.input": Unreadable()},
    )
    assert answer.status_code == 429


# -- how many bytes --------------------------------------------------------------------


def test_bytes_are_counted_as_declared(app_factory: AppFactory) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=10)
    client = app.test_client()
    begin(client, b"a", 6)
    answer = put_raw(client, b"a", total=5)
    assert answer.status_code == 413
    assert detail(answer).startswith(
        "Your unfinished uploads may have 10 bytes in all, of which 4 are left"
    )
    assert Tus(client).post(Upload_Length="5").status_code == 413
    fits = begin(client, b"abcd", 4)
    assert put_raw(client, b"a", total=1).status_code == 413
    assert finish(client, fits, b"abcd").status_code == 200
    assert post_whole(client, b"abcd").status_code == 200
    assert post_whole(client, b"abcde").status_code == 413
    assert counted(app) == {"": (1, 6)}


def test_a_deferred_length_counts_as_the_largest_until_it_is_known(
    app_factory: AppFactory,
) -> None:
    app = limited(
        app_factory, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=30, CHUNKED_UPLOAD_MAX_BYTES=20
    )
    tus = Tus(app.test_client())
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    assert counted(app) == {"": (1, 20)}
    assert tus.post(Upload_Defer_Length="1").status_code == 413
    assert tus.patch(url, 0, b"abc", Upload_Length="5").status_code == 204
    assert counted(app) == {"": (1, 5)}
    assert tus.post(Upload_Defer_Length="1").status_code == 201
    assert tus.patch(url, 3, b"de").status_code == 204
    assert counted(app) == {"": (1, 20)}


def test_without_a_largest_file_a_length_must_be_told(app_factory: AppFactory) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=30)
    tus = Tus(app.test_client())
    response = tus.post(Upload_Defer_Length="1")
    assert response.status_code == 400
    assert "must be declared" in response.text
    assert "creation-defer-length" not in options(tus)
    assert tus.post(Upload_Length="30").status_code == 201
    assert rows(app)[0].length == 30


def options(tus: Tus) -> str:
    return tus.client.options("/uploads/").headers["Tus-Extension"]


def test_a_deferred_length_is_offered_where_it_is_taken(
    app_factory: AppFactory,
) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=3)
    tus = Tus(app.test_client())
    assert "creation-defer-length" in options(tus)
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    assert counted(app) == {"": (1, 0)}
    tus.patch(url, 0, b"abc", Upload_Length="5")
    assert counted(app) == {"": (1, 5)}


def test_a_partial_upload_counts_until_a_final_names_it(
    app_factory: AppFactory,
) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=10)
    tus = Tus(app.test_client())
    a = tus.partial(b"abc")
    assert counted(app) == {"": (1, 3)}
    b = tus.partial(b"d", 3)
    assert counted(app) == {"": (2, 6)}
    final = tus.final(a, b)
    assert final.status_code == 201
    assert counted(app) == {"": (1, 6)}
    assert tus.patch(b, 1, b"ef").status_code == 204
    assert counted(app) == {"": (0, 0)}
    assert tus.content(final.headers["Location"]) == b"abcdef"


def test_a_body_that_is_too_long_is_subtracted(app_factory: AppFactory) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=10)
    tus = Tus(app.test_client())
    response = tus.client.post(
        "/uploads/",
        headers={
            "Tus-Resumable": "1.0.0",
            "Content-Type": "application/offset+octet-stream",
            "Upload-Length": "3",
            "Transfer-Encoding": "chunked",
        },
        input_stream=io.BytesIO(b"abcde"),
        environ_overrides=CHUNKED,
    )
    assert response.status_code == 413
    assert counted(app) == {"": (0, 0)}


# -- whose -----------------------------------------------------------------------------


def test_owners_are_counted_apart(app_factory: AppFactory) -> None:
    app = limited(app_factory, blueprint_class=Named, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1)
    client = app.test_client()
    for user in ("ann", "ben"):
        begin(client, b"abc", 6, headers={"X-User": user})
    again = put_raw(client, b"abc", total=6, headers={"X-User": "ben"})
    assert again.status_code == 429
    assert counted(app) == {"ann": (1, 6), "ben": (1, 6)}


def test_a_policy_may_limit_each_caller_otherwise(app_factory: AppFactory) -> None:
    class Tiered(Named):
        def get_max_open_uploads(self) -> int | None:
            return {"ann": 2, "root": None}.get(str(self.get_user_id()), 1)

    app = limited(app_factory, blueprint_class=Tiered)
    client = app.test_client()

    def create(user: str) -> int:
        return put_raw(client, b"abc", total=6, headers={"X-User": user}).status_code

    assert [create("ann") for _ in range(3)] == [200, 200, 429]
    assert [create("ben") for _ in range(2)] == [200, 429]
    assert [create("root") for _ in range(3)] == [200] * 3
    assert counted(app) == {"ann": (2, 12), "ben": (1, 6)}


def test_an_attribute_stands_over_the_key(app_factory: AppFactory) -> None:
    class Strict(ChunkedUploadBlueprint):
        max_open_uploads = 1
        max_total_bytes = "1KiB"

    app = limited(
        app_factory, blueprint_class=Strict, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=5
    )
    client = app.test_client()
    assert put_raw(client, b"abc", total=1025).status_code == 413
    begin(client, b"abc", 1024)
    assert put_raw(client, b"abc", total=6).status_code == 429


@pytest.mark.parametrize(
    "hook", ["get_max_open_uploads", "get_max_total_bytes", "get_max_stored_bytes"]
)
def test_limit_that_is_set_too_late_is_an_error(
    app: Flask, client: FlaskClient, hook: str
) -> None:
    setattr(app.blueprints["uploads"], hook, lambda: 1)
    with pytest.raises(RuntimeError, match="before register_blueprint"):
        put_raw(client, b"abc")
    assert rows(app) == []


def test_without_limits_there_is_no_table(app: Flask) -> None:
    with app.app_context():
        names = inspect(registered(app).database.engine()).get_table_names()
    assert QUOTA_TABLE not in names
    assert registered(app).quotas is None


@pytest.mark.parametrize("value", ["0", 0, -1, "many", True, 2.5, "9" * 10])
def test_a_count_is_a_whole_number(value: object) -> None:
    with pytest.raises(ConfigurationError, match="a whole number above 0"):
        Settings.from_config({"CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": value}, {})


# -- counting anew ---------------------------------------------------------------------


def test_what_was_open_before_counting_counts(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    before = app_factory(CHUNKED_UPLOAD_MAX_BYTES=50)
    client = before.test_client()
    urls = [begin(client, b"abc", 6), begin(client, b"abc", 3)]
    finish(client, urls[1], b"abc")
    Tus(client).post(Upload_Defer_Length="1")
    app = app_factory(CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=3, CHUNKED_UPLOAD_MAX_BYTES=50)
    client = app.test_client()
    begin(client, b"abc", 4)
    assert counted(app) == {"": (3, 60)}
    assert put_raw(client, b"abc", total=6).status_code == 429
    assert client.delete(urls[0]).status_code == 204
    assert counted(app) == {"": (2, 54)}


def test_a_check_for_room_begins_to_count_too(app_factory: AppFactory) -> None:
    urls = [begin(app_factory().test_client(), b"abc", 6)]
    app = app_factory(CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1)
    client = app.test_client()
    assert put_form(client, b"abc", total=6).status_code == 429
    assert client.delete(urls[0]).status_code == 204
    assert put_form(client, b"abc", total=6).status_code == 200


def test_check_finds_and_repairs_what_is_counted_wrongly(
    app_factory: AppFactory,
) -> None:
    app = limited(app_factory, blueprint_class=Named, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=5)
    client = app.test_client()
    for user in ("ann", "ben"):
        begin(client, b"abc", 6, headers={"X-User": user})
    begin(client, b"abc", 6)
    table = registered(app).quotas.table  # type: ignore[union-attr]
    with app.app_context():
        assert check() == []
        with registered(app).database.transaction() as connection:
            connection.execute(
                update(table).where(table.c.owner != "ben").values(uploads=4, size=90)
            )
        found = {(one.kind, one.subject, one.size, one.repaired) for one in check()}
        assert found == {
            ("quota", "ann", 84, False),
            ("quota", "(no owner)", 84, False),
        }
        assert {one.repaired for one in check(repair=True)} == {True}
        assert check() == []
    assert counted(app) == {"ann": (1, 6), "ben": (1, 6), "": (1, 6)}


def test_limits_that_were_off_are_counted_anew(app_factory: AppFactory) -> None:
    config = {"CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": 2}
    client = app_factory(**config).test_client()
    urls = [begin(client, b"abc", 3) for _ in range(2)]
    client = app_factory().test_client()
    assert finish(client, urls[0], b"abc").status_code == 200
    app = app_factory(**config)
    with app.app_context():
        assert [one.kind for one in check(repair=True)] == ["quota"]
    client = app.test_client()
    client.delete(urls[0])
    assert counted(app) == {"": (1, 3)}


def test_rows_changed_by_hand_never_lead_below_zero(app_factory: AppFactory) -> None:
    app = limited(app_factory, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2)
    client = app.test_client()
    url = begin(client, b"abc", 3)
    set_row(app, id_of(url), reserved=1000)
    table = registered(app).quotas.table  # type: ignore[union-attr]
    with app.app_context(), registered(app).database.transaction() as connection:
        connection.execute(update(table).values(uploads=0))
    client.delete(url)
    assert counted(app) == {"": (0, 0)}


# -- races -----------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", pytest.param("pg", marks=pytest.mark.slow)])
def raced(
    request: pytest.FixtureRequest, app_factory: AppFactory
) -> Iterator[Callable[..., Flask]]:
    """``app_factory`` on either database."""
    if request.param == "sqlite":
        yield app_factory
        return
    with running_server() as server:
        url = as_setting(new_database(server))
        yield lambda **config: app_factory(SQLALCHEMY_DATABASE_URI=url, **config)


def together(count: int, act: Callable[[int], None]) -> None:
    """In so many threads, from one starting line; what one raises, the test raises."""
    line = threading.Barrier(count)
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            line.wait(30)
            act(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures


def begin_one(
    app: Flask, size: int, headers: dict[str, str], codes: list[int], number: int
) -> None:
    answer = put_raw(app.test_client(), b"abc", total=size, headers=headers)
    codes.append(answer.status_code)


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(SAMPLE_ROUNDS, id="sample"),
        pytest.param(ROUNDS, id="all", marks=pytest.mark.slow),
    ],
)
def test_of_concurrent_creations_as_many_succeed_as_the_limit_allows(
    raced: Callable[..., Flask], rounds: int
) -> None:
    app = raced(
        CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=3,
        CHUNKED_UPLOAD_MAX_TOTAL_BYTES=100,
        blueprint_class=Named,
    )
    for turn in range(rounds):
        codes: list[int] = []
        size = 6 if turn % 2 else 40

        headers = {"X-User": f"user {turn}"}
        act = partial(begin_one, app, size, headers, codes)
        together(HERD, act)
        refused, most = (429, 3) if turn % 2 else (413, 2)
        assert sorted(codes) == [200] * most + [refused] * (HERD - most)
        assert counted(app)[f"user {turn}"] == (most, most * size)
    with app.app_context():
        assert check() == []


@pytest.mark.parametrize(
    "acts",
    [
        pytest.param(SAMPLE_ACTS, id="sample"),
        pytest.param(ACTS, id="all", marks=pytest.mark.slow),
    ],
)
def test_concurrent_creations_completions_and_deletions_leave_right_counts(
    raced: Callable[..., Flask], acts: int
) -> None:
    app = raced(
        CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=4,
        CHUNKED_UPLOAD_MAX_BYTES=20,
        CHUNKED_UPLOAD_MAX_TOTAL_BYTES=60,
    )
    seed = run_seed()
    known: list[str] = []

    def act(number: int) -> None:
        chance = random.Random(seed * HERD + number)
        tus = Tus(app.test_client())
        for _ in range(acts // HERD):
            what = chance.choice(["create", "create", "defer", "end", "end", "delete"])
            url = chance.choice(known) if known else None
            if what in ("create", "defer") or url is None:
                declared = (
                    {"Upload_Defer_Length": "1"}
                    if what == "defer"
                    else {"Upload_Length": str(chance.randint(1, 20))}
                )
                answer = tus.post(b"a", **declared)
                assert answer.status_code in (201, 413, 429), answer.text
                if answer.status_code == 201:
                    known.append(answer.headers["Location"])
            elif what == "end":
                answer = tus.patch(url, 1, b"", Upload_Length="1")
                assert answer.status_code in (204, 400, 404, 409), answer.text
            else:
                assert tus.delete(url).status_code in (204, 404)
            here = counted(app)[""]
            assert 0 <= here[0] <= 4
            assert 0 <= here[1] <= 60

    together(HERD, act)
    with app.app_context():
        assert [one for one in check() if one.kind == "quota"] == []


def test_upload_that_began_to_count_is_not_completed_without_the_count(
    tmp_path: Path,
) -> None:
    ground = Ground(tmp_path)
    with ground.open():
        seen = ground.create(10)
        ground.set_columns(seen.id, reserved=10)
        with pytest.raises(Superseded):
            append_streamed(
                ground.engine, seen, 0, [content(seen.id, 10)], finishing=True
            )
        row = ground.engine.repository.get(seen.id)
        assert row is not None
        assert (row.status, row.offset, row.reserved) == (seen.status, 0, 10)
        begun = append_streamed(
            ground.engine, row, 0, [content(row.id, 10)], finishing=True
        )
        assert ground.engine.complete.finish(begun).completed_now
