"""Stored bytes: what finished files and named partial uploads count, in all ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    check,
    delete_expired,
)
from flask_chunked.database.quota_counts import MAX_SUM
from flask_chunked.engine.records import Upload
from flask_chunked.maintenance import delete_upload
from tests.dialects.tus import Tus, checksum
from tests.gate.sums import Watch

from ..aging import LONG_AGO, age_row, set_row
from ..apps import rows
from ..exchange import begin, finish, id_of, post_whole, put_form, put_raw, send
from .stored_sums import DATA, Sums, limited, set_quota, sums


class Named(ChunkedUploadBlueprint):
    """The owner is whom a header names."""

    def get_user_id(self) -> Any:
        return request.headers.get("X-User")


# -- files come and go -----------------------------------------------------------------


def by_chunks(client: FlaskClient) -> TestResponse:
    return send(client, DATA)


def by_form(client: FlaskClient) -> TestResponse:
    answer = put_form(client, DATA, total=3)
    return finish(client, answer.get_json()["url"], DATA)


def by_post(client: FlaskClient) -> TestResponse:
    return post_whole(client, DATA)


def by_tus_creation(client: FlaskClient) -> TestResponse:
    return Tus(client).post(DATA, Upload_Length="3")


def by_tus_checked(client: FlaskClient) -> TestResponse:
    right = checksum("sha1", DATA)
    return Tus(client).post(DATA, Upload_Length="3", Upload_Checksum=right)


def by_tus(client: FlaskClient) -> TestResponse:
    tus = Tus(client)
    url = tus.create(3)
    assert tus.patch(url, 0, DATA[:2]).status_code == 204
    return tus.patch(url, 2, DATA[2:])


def by_tus_deferred(client: FlaskClient) -> TestResponse:
    tus = Tus(client)
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    return tus.patch(url, 0, DATA, Upload_Length="3")


def by_empty_tus(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Length="0")


WAYS = [
    by_chunks,
    by_form,
    by_post,
    by_tus_creation,
    by_tus_checked,
    by_tus,
    by_tus_deferred,
]


def name_of(way: Callable[..., object]) -> str:
    return way.__name__


@pytest.mark.parametrize("way", WAYS, ids=name_of)
def test_a_finished_file_counts_as_stored_whichever_way_it_came(
    make: Callable[..., Flask], way: Callable[[FlaskClient], TestResponse]
) -> None:
    app = limited(make)
    assert way(app.test_client()).status_code < 300
    assert sums(app) == (0, 0, 3)
    assert way(app.test_client()).status_code < 300
    assert sums(app) == (0, 0, 6)


def test_an_empty_file_counts_nothing(make: Callable[..., Flask]) -> None:
    app = limited(make)
    assert by_empty_tus(app.test_client()).status_code == 201
    assert sums(app) == (0, 0, 0)


def the_file(app: Flask) -> Upload:
    """The one of three bytes."""
    (upload,) = (row for row in rows(app) if row.offset == 3)
    return upload


def deleted(app: Flask, tmp_path: Path) -> None:
    url = f"/uploads/{the_file(app).id}"
    assert app.test_client().delete(url).status_code == 204


def deleted_by_hand(app: Flask, tmp_path: Path) -> None:
    with app.app_context():
        delete_upload(the_file(app).id)


def moved(app: Flask, tmp_path: Path) -> None:
    blueprint: Any = app.blueprints["uploads"]
    with app.app_context():
        blueprint.move(the_file(app), tmp_path / "moved")


def moved_twice(app: Flask, tmp_path: Path) -> None:
    moved(app, tmp_path)
    moved(app, tmp_path)


def moved_and_deleted(app: Flask, tmp_path: Path) -> None:
    moved(app, tmp_path)
    deleted(app, tmp_path)


ENDS = [deleted, deleted_by_hand, moved, moved_twice, moved_and_deleted]


@pytest.mark.local_disk
@pytest.mark.parametrize("end", ENDS, ids=name_of)
def test_a_removed_file_is_subtracted_once(
    make: Callable[..., Flask], tmp_path: Path, end: Callable[[Flask, Path], None]
) -> None:
    app = limited(make)
    for content in (DATA, b"others"):
        assert send(app.test_client(), content).status_code == 200
    assert sums(app) == (0, 0, 9)
    end(app, tmp_path)
    assert sums(app) == (0, 0, 6)


def test_what_expires_is_given_back_and_a_file_never_expires(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    client = app.test_client()
    send(client, DATA)
    begin(client, b"abc", 7)
    assert sums(app) == (1, 7, 3)
    for row in rows(app):
        age_row(app, row.id)
    with app.app_context():
        assert len(list(delete_expired())) == 1
    assert sums(app) == (0, 0, 3)


# -- what is refused -------------------------------------------------------------------


def first_chunk(client: FlaskClient) -> TestResponse:
    return put_raw(client, DATA)


def first_form(client: FlaskClient) -> TestResponse:
    return put_form(client, DATA, total=3)


def tus_length(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Length="3")


def tus_deferred(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Defer_Length="1")


def tus_partial(client: FlaskClient) -> TestResponse:
    return Tus(client).post(Upload_Length="3", Upload_Concat="partial")


CREATIONS = [
    first_chunk,
    first_form,
    by_post,
    by_tus_creation,
    by_tus_checked,
    tus_length,
    tus_deferred,
    tus_partial,
]


@pytest.mark.parametrize("create", CREATIONS, ids=name_of)
def test_bytes_that_do_not_fit_are_413(
    make: Callable[..., Flask], create: Callable[[FlaskClient], TestResponse]
) -> None:
    app = limited(make, 10, CHUNKED_UPLOAD_MAX_BYTES=3)
    client = app.test_client()
    for _ in range(2):
        assert send(client, DATA).status_code == 200
    begin(client, b"ab", 2)
    answer = create(client)
    assert answer.status_code == 413
    assert "files and unfinished uploads may have 10 bytes in all" in answer.text
    assert "of which 2 are left; delete one first" in answer.text
    assert sums(app) == (1, 2, 6)
    assert client.delete(f"/uploads/{rows(app)[0].id}").status_code == 204
    assert create(client).status_code in (200, 201)


def test_unfinished_uploads_and_files_share_the_limit(
    make: Callable[..., Flask],
) -> None:
    app = limited(make, 10)
    client = app.test_client()
    send(client, b"123456")
    url = begin(client, b"ab", 4)
    assert sums(app) == (1, 4, 6)
    assert put_raw(client, b"x", total=1).status_code == 413
    # What was taken is taken to its end.
    assert put_raw(client, b"cd", url=url, start=2, total=4).status_code == 200
    assert finish(client, url, b"abcd").status_code == 200
    assert sums(app) == (0, 0, 10)
    assert put_raw(client, b"x", total=1).status_code == 413
    assert client.delete(url).status_code == 204
    assert put_raw(client, b"abcd", total=4).status_code == 200
    assert sums(app) == (1, 4, 6)


def test_a_lower_limit_refuses_only_new_bytes(make: Callable[..., Flask]) -> None:
    client = limited(make, 100).test_client()
    file = Tus(client).post(b"x" * 10, Upload_Length="10").headers["Location"]
    url = begin(client, b"ab", 4)
    app = limited(make, 5)
    client = app.test_client()
    answer = put_raw(client, b"x", total=1)
    assert answer.status_code == 413
    assert "of which 0 are left" in answer.text
    assert Tus(client).content(file) == b"x" * 10
    assert put_raw(client, b"cd", url=url, start=2, total=4).status_code == 200
    assert finish(client, url, b"abcd").status_code == 200
    assert sums(app) == (0, 0, 14)


def test_a_policy_may_limit_each_caller_otherwise(make: Callable[..., Flask]) -> None:
    class Tiered(Named):
        def get_max_stored_bytes(self) -> int | None:
            return {"ann": 6, "root": None}.get(str(self.get_user_id()), 3)

    app = make(blueprint_class=Tiered)
    client = app.test_client()

    def create(user: str) -> int:
        return post_whole(client, DATA, headers={"X-User": user}).status_code

    assert [create("ann") for _ in range(3)] == [200, 200, 413]
    assert [create("ben") for _ in range(2)] == [200, 413]
    assert [create("root") for _ in range(3)] == [200, 200, 200]
    assert (sums(app, "ann"), sums(app, "ben")) == ((0, 0, 6), (0, 0, 3))


def test_an_attribute_stands_over_the_key(make: Callable[..., Flask]) -> None:
    class Strict(ChunkedUploadBlueprint):
        max_stored_bytes = "1KiB"

    app = make(blueprint_class=Strict, CHUNKED_UPLOAD_MAX_STORED_BYTES=5)
    client = app.test_client()
    assert put_raw(client, b"abc", total=1025).status_code == 413
    begin(client, b"abc", 1024)


def test_owners_have_sums_of_their_own_and_all_others_share_one(
    make: Callable[..., Flask],
) -> None:
    app = limited(make, 5, blueprint_class=Named)
    client = app.test_client()
    for headers in ({"X-User": "ann"}, {"X-User": "ben"}, {}):
        assert post_whole(client, DATA, headers=headers).status_code == 200
        assert post_whole(client, DATA, headers=headers).status_code == 413
    assert [sums(app, key) for key in ("ann", "ben", "")] == [(0, 0, 3)] * 3


# -- lengths that are declared late ----------------------------------------------------


def test_a_deferred_length_counts_the_largest_file_until_it_is_known(
    make: Callable[..., Flask],
) -> None:
    app = limited(make, 25)
    tus = Tus(app.test_client())
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    assert sums(app) == (1, 20, 0)
    assert tus.post(Upload_Length="6").status_code == 413
    assert tus.patch(url, 0, b"abc", Upload_Length="5").status_code == 204
    assert sums(app) == (1, 5, 0)
    assert tus.patch(url, 3, b"de").status_code == 204
    assert sums(app) == (0, 0, 5)


def test_without_a_largest_file_a_length_must_be_declared(
    make: Callable[..., Flask],
) -> None:
    app = make(CHUNKED_UPLOAD_MAX_STORED_BYTES=100)
    tus = Tus(app.test_client())
    response = tus.post(Upload_Defer_Length="1")
    assert response.status_code == 400
    assert "must be declared" in response.text
    extensions = tus.client.options("/uploads/").headers["Tus-Extension"]
    assert "creation-defer-length" not in extensions
    a, b = tus.partial(b"ab"), tus.partial(b"c", 3)
    assert tus.final(a, b).status_code == 201
    assert sums(app) == (1, 5, 5)


class Growing(ChunkedUploadBlueprint):
    """The largest file of a caller changes."""

    largest = 5

    def get_max_bytes(self) -> int | None:
        return self.largest


@pytest.mark.parametrize(
    ("by", "is_member"), [("tus", False), ("content-range", False), ("tus", True)]
)
def test_a_declared_length_that_is_more_than_was_counted_needs_room(
    make: Callable[..., Flask], by: str, is_member: bool
) -> None:
    app = make(CHUNKED_UPLOAD_MAX_STORED_BYTES=30, blueprint_class=Growing)
    blueprint = app.blueprints["uploads"]
    assert isinstance(blueprint, Growing)
    tus = Tus(app.test_client())
    concat = {"Upload_Concat": "partial"} if is_member else {}
    url = tus.post(Upload_Defer_Length="1", **concat).headers["Location"]
    if is_member:
        assert tus.final(url).status_code == 201
    counted: Sums = (1, 5, 5) if is_member else (1, 5, 0)
    assert sums(app) == counted
    blueprint.largest = 100

    def declare(length: int) -> TestResponse:
        if by == "tus":
            return tus.patch(url, 0, b"ab", Upload_Length=str(length))
        return put_raw(tus.client, b"ab", url=url, total=length)

    most = 25 if is_member else 30
    answer = declare(most + 1)
    assert answer.status_code == 413
    left = 20 if is_member else 25
    assert f"of which {left} are left" in answer.text
    assert sums(app) == counted
    assert {row.offset for row in rows(app)} == {0}
    assert declare(most).status_code < 300
    assert sums(app) == ((1, 5, most) if is_member else (1, most, 0))


# -- concatenations --------------------------------------------------------------------


def test_partial_uploads_move_from_one_sum_to_the_other_when_they_are_named(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    tus = Tus(app.test_client())
    a, b = tus.partial(DATA), tus.partial(b"d", 3)
    assert sums(app) == (2, 6, 0)
    final = tus.final(a, b, a)
    assert final.status_code == 201
    assert sums(app) == (1, 9, 6)
    assert tus.patch(b, 1, b"ef").status_code == 204
    assert tus.content(final.headers["Location"]) == b"abcdefabc"
    assert sums(app) == (0, 0, 15)
    assert tus.delete(a).status_code == 204
    assert sums(app) == (0, 0, 12)
    assert tus.delete(final.headers["Location"]).status_code == 204
    # A member that a complete final named never counts as unfinished again.
    assert sums(app) == (0, 0, 3)
    assert tus.delete(b).status_code == 204
    assert sums(app) == (0, 0, 0)


def test_partial_uploads_that_are_not_kept_are_given_back(
    make: Callable[..., Flask],
) -> None:
    app = limited(make, CHUNKED_UPLOAD_KEEP_PARTIALS=False)
    tus = Tus(app.test_client())
    a, b = tus.partial(DATA), tus.partial(b"def")
    assert tus.final(a, b).status_code == 201
    assert sums(app) == (0, 0, 6)
    assert [row.partial for row in rows(app)] == [False]


@pytest.mark.parametrize(("most", "status"), [(11, 413), (12, 201)])
def test_a_final_needs_room_for_its_whole_length(
    make: Callable[..., Flask], most: int, status: int
) -> None:
    app = limited(make, most)
    tus = Tus(app.test_client())
    a, b = tus.partial(DATA), tus.partial(b"def")
    answer = tus.final(a, b)
    assert answer.status_code == status
    if status == 413:
        assert "of which 5 are left" in answer.text
        assert sums(app) == (2, 6, 0)
    else:
        assert sums(app) == (0, 0, 12)


def test_the_limit_of_open_bytes_is_asked_after_the_members_are_given_back(
    make: Callable[..., Flask],
) -> None:
    app = limited(
        make, CHUNKED_UPLOAD_MAX_TOTAL_BYTES=10, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2
    )
    tus = Tus(app.test_client())
    a, b = tus.partial(b"a", 4), tus.partial(b"b", 6)
    assert tus.post(Upload_Length="0").status_code == 429
    assert tus.final(a, b).status_code == 201
    assert sums(app) == (1, 10, 10)


def test_a_final_that_is_refused_changes_nothing(make: Callable[..., Flask]) -> None:
    class Strict(ChunkedUploadBlueprint):
        def verify(self, upload: Any) -> None:
            raise ChunkedUploadError("not this one")

    app = limited(make, blueprint_class=Strict)
    tus = Tus(app.test_client())
    a, b = tus.partial(DATA), tus.partial(b"d", 3)
    assert tus.final(a).status_code == 422
    assert sums(app) == (2, 6, 0)
    # In the request of the last member the final goes, and its members count again.
    assert tus.final(a, b).status_code == 201
    assert sums(app) == (1, 6, 6)
    assert tus.patch(b, 1, b"ef").status_code == 204
    assert sums(app) == (2, 6, 0)


@pytest.mark.parametrize("end", ["deleted", "expired"])
def test_members_count_again_when_a_waiting_final_goes(
    make: Callable[..., Flask], end: str
) -> None:
    app = limited(make)
    tus = Tus(app.test_client())
    a, b = tus.partial(DATA), tus.partial(b"d", 3)
    final = tus.final(a, b).headers["Location"]
    assert sums(app) == (1, 6, 6)
    if end == "deleted":
        assert tus.delete(final).status_code == 204
        assert sums(app) == (2, 6, 0)
        return
    for row in rows(app):
        age_row(app, row.id)
    age_row(app, id_of(final), 2 * LONG_AGO)
    with app.app_context():
        assert len(list(delete_expired())) == 3
    assert sums(app) == (0, 0, 0)


def test_a_partial_upload_counts_once_whichever_finals_name_it(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    tus = Tus(app.test_client())
    a, b = tus.partial(DATA), tus.partial(b"d", 3)
    first, second = (tus.final(a, b).headers["Location"] for _ in range(2))
    assert sums(app) == (2, 12, 6)
    assert tus.delete(first).status_code == 204
    assert sums(app) == (1, 6, 6)
    alone = tus.final(a).headers["Location"]
    assert sums(app) == (1, 6, 9)
    assert tus.delete(second).status_code == 204
    # One final that is complete named "a"; nothing names "b" any more.
    assert sums(app) == (1, 3, 6)
    assert tus.delete(alone).status_code == 204
    assert sums(app) == (1, 3, 3)


@pytest.mark.parametrize("end", ["deleted", "expired"])
def test_a_member_that_goes_is_given_back_where_it_counts(
    make: Callable[..., Flask], end: str
) -> None:
    app = limited(make)
    tus = Tus(app.test_client())
    a, b, free = tus.partial(DATA), tus.partial(b"de", 2), tus.partial(b"f", 7)
    assert tus.final(a, b).status_code == 201
    assert sums(app) == (1, 7, 10)
    for url in (a, free):
        if end == "deleted":
            assert tus.delete(url).status_code == 204
        else:
            age_row(app, id_of(url))
    if end == "expired":
        with app.app_context():
            assert len(list(delete_expired())) == 2
    assert sums(app) == (0, 0, 7)


def test_members_of_other_owners_are_moved_in_their_own_sums(
    make: Callable[..., Flask],
) -> None:
    app = limited(make, blueprint_class=Named, CHUNKED_UPLOAD_USER_RESTRICTED=False)
    users = {name: Tus(app.test_client()) for name in ("ann", "ben")}
    for name, tus in users.items():
        tus.client.environ_base["HTTP_X_USER"] = name
    a, b = users["ann"].partial(DATA), users["ben"].partial(b"d", 2)
    assert (sums(app, "ann"), sums(app, "ben")) == ((1, 3, 0), (1, 2, 0))
    final = users["ben"].final(a, b).headers["Location"]
    assert (sums(app, "ann"), sums(app, "ben")) == ((0, 0, 3), (1, 5, 2))
    assert users["ben"].delete(final).status_code == 204
    assert (sums(app, "ann"), sums(app, "ben")) == ((1, 3, 0), (1, 2, 0))
    assert users["ben"].final(a, b).status_code == 201
    assert users["ben"].patch(b, 1, b"e").status_code == 204
    assert (sums(app, "ann"), sums(app, "ben")) == ((0, 0, 3), (0, 0, 7))


def test_a_final_of_members_without_lengths_counts_what_they_counted(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    tus = Tus(app.test_client())
    response = tus.post(Upload_Defer_Length="1", Upload_Concat="partial")
    a, b = response.headers["Location"], tus.partial(DATA)
    assert sums(app) == (2, 23, 0)
    final = tus.final(a, b).headers["Location"]
    # What its members counted, which is more than the largest file.
    assert sums(app) == (1, 23, 23)
    assert tus.patch(a, 0, b"d", Upload_Length="2").status_code == 204
    assert tus.head(final).headers["Upload-Length"] == "5"
    assert sums(app) == (1, 5, 5)
    assert tus.patch(a, 1, b"e").status_code == 204
    assert tus.content(final) == b"deabc"
    assert sums(app) == (0, 0, 10)


def test_a_ninth_final_that_waits_for_one_partial_is_429_and_counts_nothing(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    tus = Tus(app.test_client())
    a, b = tus.partial(b"a", 2), tus.partial(b"b")
    finals = [tus.final(a, b).headers["Location"] for _ in range(8)]
    assert sums(app) == (8, 24, 3)
    answer = tus.final(b, a)
    assert answer.status_code == 429
    assert "8 final uploads wait" in answer.text
    assert sums(app) == (8, 24, 3)
    # The complete one has no such limit.
    assert tus.final(b).status_code == 201
    assert tus.delete(finals[0]).status_code == 204
    assert tus.final(a, a).status_code == 201


# -- counting anew ---------------------------------------------------------------------


def test_files_that_were_there_before_counting_count(
    make: Callable[..., Flask],
) -> None:
    tus = Tus(make(CHUNKED_UPLOAD_MAX_BYTES=20).test_client())
    a, b = tus.partial(DATA), tus.partial(b"d", 3)
    assert tus.final(a).status_code == 201
    begin(tus.client, b"abc", 7)
    send(tus.client, b"12345")
    app = limited(make, 24)
    tus = Tus(app.test_client())
    # Three bytes kept, three free, seven begun, three and five in files.
    answer = tus.post(Upload_Length="4")
    assert answer.status_code == 413
    assert "of which 3 are left" in answer.text
    assert sums(app) == (2, 10, 11)
    assert tus.patch(b, 1, b"ef").status_code == 204
    assert tus.post(Upload_Length="3").status_code == 201


def test_a_limit_that_is_set_later_counts_what_is_there(
    make: Callable[..., Flask],
) -> None:
    app = make(CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=5)
    send(app.test_client(), b"12345")
    begin(app.test_client(), b"abc", 7)
    assert sums(app) == (1, 7, None)
    app = limited(make, 12)
    assert put_raw(app.test_client(), b"x").status_code == 413
    assert sums(app) == (1, 7, 5)


@pytest.mark.parametrize("others", [{}, {"CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": 50}])
def test_a_limit_that_was_off_for_a_while_is_right_again(
    make: Callable[..., Flask], others: dict[str, Any]
) -> None:
    app = limited(make)
    files = [send(app.test_client(), DATA).get_json()["url"] for _ in range(2)]
    assert sums(app) == (0, 0, 6)
    off = make(**others)
    send(off.test_client(), b"1234567")
    assert off.test_client().delete(files[0]).status_code == 204
    app = limited(make)
    if others:
        # The row was changed meanwhile, and says that this is not counted in it.
        assert Watch(app).look().told[""].stored is None
        assert post_whole(app.test_client(), DATA).status_code == 200
        assert sums(app) == (0, 0, 13)
        return
    with app.app_context():
        assert [(one.kind, one.size) for one in check(repair=True)] == [("quota", 4)]
    assert sums(app) == (0, 0, 10)


def test_check_finds_and_repairs_what_is_counted_wrongly(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    tus = Tus(app.test_client())
    tus.final(tus.partial(DATA), tus.partial(b"d", 3))
    send(tus.client, b"12345")
    assert sums(app) == (1, 6, 11)
    with app.app_context():
        assert list(check()) == []
        set_quota(app, size=7, stored=100)
        (found,) = check()
        assert (found.kind, found.subject, found.size) == ("quota", "(no owner)", 90)
        assert not found.repaired
        assert [one.repaired for one in check(repair=True)] == [True]
        assert list(check()) == []
    assert sums(app) == (1, 6, 11)


# -- sums that are too large -----------------------------------------------------------


def test_a_recount_of_more_than_a_column_holds_is_the_most(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    for number in range(6):
        url = begin(app.test_client(), DATA, 3)
        if number % 2:
            finish(app.test_client(), url, DATA)
    huge = 2**62 + 2**31 + 1
    for row in rows(app):
        set_row(app, row.id, length=huge, offset=huge if row.is_complete else 3)
        if row.reserved is not None:
            set_row(app, row.id, reserved=huge)
    with app.app_context():
        assert [one.kind for one in check(repair=True) if one.kind == "quota"]
        assert [one.kind for one in check() if one.kind == "quota"] == []
    told = Watch(app).look().told[""]
    assert (told.uploads, told.size, told.stored) == (3, MAX_SUM, MAX_SUM)
