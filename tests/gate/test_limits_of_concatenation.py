"""What partial and final uploads count, and how large anything may be declared."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from flask import Flask

from flask_chunked import delete_upload
from tests.apps import rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import Tus
from tests.exchange import OCTETS, id_of, md5, put_form, put_raw

Limited = Callable[..., Flask]
KIB = 1024
LARGEST = 2**53 - 1
TOO_LARGE = (2**53, 2**53 + 9, 2**63 - 1)
#: Final uploads that may wait for one partial upload.
MOST_WAITING = 8


@pytest.fixture
def limited(app_factory: AppFactory) -> Limited:
    """Apps with limits, which need not survive a loss of power."""

    def make(**limits: object) -> Flask:
        config = {f"CHUNKED_UPLOAD_{name}": value for name, value in limits.items()}
        return app_factory(CHUNKED_UPLOAD_DURABLE=False, **config)

    return make


def tus_of(app: Flask) -> Tus:
    return Tus(app.test_client())


# -- amplification -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "answers"),
    [
        # Room for one file of a hundred times what was sent, and for no second one.
        ({"MAX_STORED_BYTES": 200 * KIB, "MAX_BYTES": 150 * KIB}, [201, 413, 413]),
        # Room for none: the whole length counts before a byte is copied.
        ({"MAX_STORED_BYTES": 100 * KIB}, [413, 413, 413]),
        ({"MAX_TOTAL_BYTES": 99 * KIB}, [413, 413, 413]),
        ({"MAX_BYTES": 99 * KIB}, [413, 413, 413]),
        # Finished files do not count here.
        ({"MAX_TOTAL_BYTES": 100 * KIB}, [201, 201, 201]),
    ],
)
def test_a_partial_named_a_hundred_times_stays_within_its_owners_limits(
    limited: Limited, tmp_path: Path, limits: dict[str, int], answers: list[int]
) -> None:
    tus = tus_of(limited(**limits))
    part = tus.partial(os.urandom(KIB))
    found = [tus.final(*[part] * 100).status_code for _ in answers]
    assert found == answers
    sizes = [len(path.read_bytes()) for path in stored_files(tmp_path)]
    assert sum(sizes) == KIB + 100 * KIB * answers.count(201)


def test_a_file_that_was_removed_makes_room_for_another(
    limited: Limited,
) -> None:
    app = limited(MAX_STORED_BYTES=200 * KIB)
    tus = tus_of(app)
    part = tus.partial(os.urandom(KIB))
    first = tus.final(*[part] * 100).headers["Location"]
    assert tus.final(*[part] * 100).status_code == 413
    assert tus.delete(first).status_code == 204
    second = tus.final(*[part] * 100)
    assert second.status_code == 201
    assert tus.final(*[part] * 100).status_code == 413
    with app.app_context():
        delete_upload(id_of(second.headers["Location"]))
    assert tus.final(*[part] * 100).status_code == 201


def test_only_so_many_finals_wait_for_one_partial(limited: Limited) -> None:
    app = limited()
    tus = tus_of(app)
    part = tus.partial(b"", 10)
    waiting = [tus.final(*[part] * 9) for _ in range(MOST_WAITING + 1)]
    answers = [answer.status_code for answer in waiting]
    assert answers == [201] * MOST_WAITING + [429]
    # One that is given up, and all that are made, wait no more.
    tus.delete(waiting[0].headers["Location"])
    assert tus.final(part).status_code == 201
    assert tus.final(part).status_code == 429
    assert tus.patch(part, 0, b"0123456789").status_code == 204
    assert tus.final(part).status_code == 201
    assert len([row for row in rows(app) if not row.partial]) == MOST_WAITING + 1


# -- what counts as unfinished -------------------------------------------------------


def test_a_partial_counts_until_a_final_names_it(limited: Limited) -> None:
    tus = tus_of(limited(MAX_OPEN_UPLOADS=3))
    for _ in range(3):
        parts = [tus.partial(b"ab"), tus.partial(b"cd")]
        # Two complete partial uploads count; the final one takes their place.
        assert tus.final(*parts).status_code == 201
    parts = [tus.partial(b"ab") for _ in range(3)]
    assert tus.post(Upload_Length="1").status_code == 429
    assert tus.final(*parts).status_code == 201
    assert tus.post(Upload_Length="1").status_code == 201


def test_a_final_counts_its_whole_length_while_it_waits(
    limited: Limited,
) -> None:
    tus = tus_of(limited(MAX_TOTAL_BYTES=20))
    part = tus.partial(b"ab", 10)
    assert tus.final(part, part).status_code == 201
    assert tus.post(Upload_Length="1").status_code == 413
    assert tus.patch(part, 2, b"cdefghij").status_code == 204
    assert tus.post(Upload_Length="20").status_code == 201


def test_members_count_again_when_the_final_that_waits_for_them_goes(
    limited: Limited,
) -> None:
    tus = tus_of(limited(MAX_OPEN_UPLOADS=2))
    parts = [tus.partial(b"ab"), tus.partial(b"c", 2)]
    final = tus.final(*parts).headers["Location"]
    spare = tus.create(1)
    assert tus.post(Upload_Length="1").status_code == 429
    tus.delete(spare)
    tus.delete(final)
    assert tus.post(Upload_Length="1").status_code == 429
    tus.delete(parts[0])
    assert tus.post(Upload_Length="1").status_code == 201


def test_partials_that_are_not_kept_go_when_no_final_waits_for_them(
    limited: Limited, tmp_path: Path
) -> None:
    app = limited(KEEP_PARTIALS=False, DOWNLOADS=True)
    tus = tus_of(app)
    a, b = tus.partial(b"ab"), tus.partial(b"c", 2)
    waiting = tus.final(a, b).headers["Location"]
    done = tus.final(a).headers["Location"]
    assert tus.head(a).status_code == 200, "a final upload waits for it still"
    tus.patch(b, 1, b"d")
    assert [tus.head(url).status_code for url in (a, b)] == [404, 404]
    assert [tus.content(url) for url in (done, waiting)] == [b"ab", b"abcd"]
    assert len(stored_files(tmp_path)) == 2


# -- a final that fails leaves nothing -----------------------------------------------


@pytest.mark.local_disk
def test_a_final_that_finds_no_space_leaves_nothing(
    limited: Limited, tmp_path: Path
) -> None:
    app = limited(MAX_TOTAL_BYTES=9)
    tus = tus_of(app)
    parts = [tus.partial(b"abc"), tus.partial(b"def")]
    full = OSError(errno.ENOSPC, "no space left")
    with mock.patch.multiple(
        os,
        copy_file_range=mock.Mock(side_effect=full),
        pwrite=mock.Mock(side_effect=full),
    ):
        assert tus.final(*parts).status_code == 507
    assert [row.partial for row in rows(app)] == [True, True]
    assert len(stored_files(tmp_path)) == 2
    assert tus.final(*parts).status_code == 201


# -- lengths -------------------------------------------------------------------------


def by_creation(tus: Tus, length: int) -> int:
    return tus.post(Upload_Length=str(length)).status_code


def by_partial(tus: Tus, length: int) -> int:
    told = {"Upload_Length": str(length), "Upload_Concat": "partial"}
    return tus.post(**told).status_code


def by_empty_patch(tus: Tus, length: int) -> int:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    answer = tus.patch(url, 0, Upload_Length=str(length)).status_code
    assert "Upload-Length" not in tus.head(url).headers or answer == 204
    return answer


def by_patch(tus: Tus, length: int) -> int:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    return tus.patch(url, 0, b"x", Upload_Length=str(length)).status_code


def by_put(tus: Tus, length: int) -> int:
    answer = put_raw(tus.client, b"x", total=length).status_code
    return {200: 201}.get(answer, answer)


def by_form(tus: Tus, length: int) -> int:
    answer = put_form(tus.client, b"x", total=length).status_code
    return {200: 201}.get(answer, answer)


def by_put_on_deferred(tus: Tus, length: int) -> int:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    answer = put_raw(tus.client, b"x", total=length, url=url).status_code
    return {200: 204}.get(answer, answer)


def by_final(tus: Tus, length: int) -> int:
    part = _deferred(tus, length=min(LARGEST, length - 1))
    return tus.final(part, _deferred(tus, length=1)).status_code


def by_member_of_a_final(tus: Tus, length: int) -> int:
    parts = [_deferred(tus), _deferred(tus, length=1)]
    final = tus.final(*parts)
    assert final.status_code == 201
    told = str(min(LARGEST, length - 1))
    answer = tus.patch(parts[0], 0, Upload_Length=told).status_code
    assert tus.head(final.headers["Location"]).status_code == 200
    assert tus.client.get("/uploads/?status=all").status_code == 200
    return answer


def _deferred(tus: Tus, length: int | None = None) -> str:
    told = {"Upload_Length": str(length)} if length else {"Upload_Defer_Length": "1"}
    answer = tus.post(Upload_Concat="partial", **told)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


CREATIONS = [by_creation, by_partial, by_put, by_form, by_final]
DECLARATIONS = [by_empty_patch, by_patch, by_put_on_deferred, by_member_of_a_final]


@pytest.mark.local_disk  # S3 holds less, and still less of what has no length yet.
@pytest.mark.parametrize("limits", [{}, {"MAX_OPEN_UPLOADS": 90}])
def test_a_length_that_no_storage_holds_is_refused_and_hinders_no_other_upload(
    limited: Limited, limits: dict[str, int]
) -> None:
    tus = tus_of(limited(**limits))
    for declare, length in product([*CREATIONS, *DECLARATIONS], TOO_LARGE):
        assert declare(tus, length) == 413, (declare, length)
    assert tus.post(Upload_Length="3").status_code == 201
    assert tus.post(Upload_Defer_Length="1").status_code == 201
    assert put_raw(tus.client, b"abc", total=6).status_code == 200


@pytest.mark.local_disk
def test_the_largest_length_is_taken_and_counted(limited: Limited) -> None:
    app = limited(MAX_OPEN_UPLOADS=90)
    tus = tus_of(app)
    for declare in CREATIONS:
        assert declare(tus, LARGEST) == 201, declare
    for declare in DECLARATIONS:
        assert declare(tus, LARGEST) == 204, declare
    assert tus.post(Upload_Length="3").status_code == 201


# -- Content-Range on a deferred length ----------------------------------------------


@pytest.mark.parametrize("put", [put_raw, put_form])
def test_a_total_declares_the_length_and_another_one_is_refused(
    limited: Limited, put: Any
) -> None:
    tus = tus_of(limited())
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    assert put(tus.client, b"abc", total=6, url=url).status_code == 200
    assert tus.head(url).headers["Upload-Length"] == "6"
    assert put(tus.client, b"def", start=3, total=9, url=url).status_code == 400
    assert put(tus.client, b"def", start=3, total=6, url=url).status_code == 200
    done = tus.client.post(url, data={"md5": md5(b"abcdef")})
    assert (done.status_code, done.json and done.json["status"]) == (200, 2)


def test_a_total_below_the_offset_is_refused(limited: Limited) -> None:
    tus = tus_of(limited())
    url = tus.post(b"abcdef", Upload_Defer_Length="1").headers["Location"]
    headers = {"Content-Range": "bytes 0-1/3", "Content-Type": OCTETS}
    assert tus.client.put(url, data=b"xy", headers=headers).status_code == 400
    assert tus.head(url).headers["Upload-Defer-Length"] == "1"
