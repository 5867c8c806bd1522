"""tus 1.0.0, extensions: rules 21 to 64 of docs/tus.rst, by number."""

from __future__ import annotations

import base64
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_chunked.protocol.tus import CHECKSUM_SIZES
from tests.apps import registered, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import BASE, BYTES, CHUNKED, TUS, Tus, checksum, metadata

# -- creation --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload_Length": "3", "Upload_Defer_Length": "1"},
        {"Upload_Defer_Length": "0"},
        {"Upload_Defer_Length": "2"},
        {"Upload_Defer_Length": "true"},
        {"Upload_Defer_Length": ""},
    ],
    ids=str,
)
def test_rules_21_and_22_a_creation_declares_its_length_or_defers_it(
    tus: Tus, tus_app: Flask, headers: dict[str, str]
) -> None:
    assert tus.post(**headers).status_code == 400
    assert rows(tus_app) == []


def test_rule_23_creation_answers_201_and_a_relative_location(tus: Tus) -> None:
    response = tus.post(Upload_Length="3")
    assert response.status_code == 201
    assert response.headers["Location"].startswith(BASE)
    assert tus.offset(response.headers["Location"]) == 0


@pytest.mark.parametrize(
    ("prefix", "given"),
    [("/<team>/up", {"team": "red"}), ("/uploads", {"lang": "en"})],
    ids=["in the path", "in the query"],
)
def test_rule_23_location_is_a_path_whatever_is_added_to_urls(
    app_factory: AppFactory, prefix: str, given: dict[str, str]
) -> None:
    app = app_factory(url_prefix=prefix)

    @app.url_defaults
    def add(_endpoint: str, values: dict[str, str]) -> None:
        values.update({name: given[name] for name in given if name not in values})

    base = prefix.replace("<team>", "red") + "/"
    tus = Tus(app.test_client(), base)
    response = tus.client.post(
        base, headers={**TUS, "Upload-Length": "3"}, base_url="http://localhost/x"
    )
    location = response.headers["Location"]
    assert location.startswith(f"/x{base}")
    assert "?" not in location
    assert tus.offset(location.removeprefix("/x")) == 0


def test_rule_23_above_the_limit_is_413(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_MAX_BYTES=10)
    tus = Tus(app.test_client())
    assert tus.post(Upload_Length="11").status_code == 413
    assert tus.post(Upload_Length="10").status_code == 201
    assert len(rows(app)) == 1


def test_rule_24_an_empty_file_is_complete_at_once(tus: Tus, tus_app: Flask) -> None:
    url = tus.create(0)
    assert tus.content(url) == b""
    assert rows(tus_app)[0].is_complete
    assert tus.head(url).headers["Upload-Offset"] == "0"


@pytest.mark.parametrize(
    "raw",
    ["", "k", "k ", "k,l", "k Zm9v,l", "k Zm9v, l Zm9v", "a.b-c_d! Zm9v", " k "],
)
def test_rules_25_to_27_metadata_is_echoed_as_it_came(tus: Tus, raw: str) -> None:
    url = tus.create(3, Upload_Metadata=raw)
    told = tus.head(url).headers.get("Upload-Metadata")
    assert told == (raw.strip() or None)


@pytest.mark.parametrize(
    "raw",
    [
        ",",
        "k,,l",
        "k Zm9v,k Zm9v",
        "k Zm9",
        "k Z$9v",
        "k Zm9v Zm9v",
        "k  Zm9v",
        "k\xe4 Zm9v",
        "\x7f Zm9v",
        "k " + "A" * 5000,
        ",".join(f"k{i}" for i in range(21)),
        "x" * 65,
    ],
)
def test_rules_25_and_26_bad_metadata_is_400_and_creates_nothing(
    tus: Tus, tus_app: Flask, raw: str
) -> None:
    assert tus.post(Upload_Length="3", Upload_Metadata=raw).status_code == 400
    assert rows(tus_app) == []


def test_rule_28_metadata_is_sanitised_before_it_is_used(
    tus: Tus, tus_app: Flask
) -> None:
    tus.create(3, Upload_Metadata=metadata(filename="../../e\r\nvil\x00.txt"))
    (row,) = rows(tus_app)
    assert row.filename == "evil.txt"


# -- creation-defer-length -------------------------------------------------------------


def deferred(tus: Tus) -> str:
    return tus.post(Upload_Defer_Length="1").headers["Location"]


def test_rule_29_head_shows_that_the_length_is_deferred(tus: Tus) -> None:
    url = deferred(tus)
    response = tus.head(url)
    assert response.headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in response.headers
    tus.patch(url, 0, b"ab", Upload_Length="5")
    response = tus.head(url)
    assert response.headers["Upload-Length"] == "5"
    assert "Upload-Defer-Length" not in response.headers


def test_rule_30_a_length_never_changes(app_factory: AppFactory) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_MAX_BYTES=10).test_client())
    url = deferred(tus)
    tus.patch(url, 0, b"abc")
    assert tus.patch(url, 3, b"d", Upload_Length="2").status_code == 400
    assert tus.patch(url, 3, b"d", Upload_Length="11").status_code == 413
    assert tus.patch(url, 3, b"d", Upload_Length="5").status_code == 204
    assert tus.patch(url, 4, b"e", Upload_Length="6").status_code == 400
    assert tus.patch(url, 4, b"e", Upload_Length="5").status_code == 204
    assert tus.offset(url) == 5


@pytest.mark.parametrize("when", ["first", "middle", "last", "empty"])
def test_rule_31_the_length_may_come_on_any_patch(tus: Tus, when: str) -> None:
    url = deferred(tus)
    for index, body in enumerate([b"ab", b"cd", b"ef", b""]):
        name = ["first", "middle", "last", "empty"][index]
        told = {"Upload_Length": "6"} if name == when else {}
        assert tus.patch(url, min(2 * index, 6), body, **told).status_code == 204
    assert tus.content(url) == b"abcdef"


def test_rule_32_a_length_sticks_unless_its_checksum_failed(tus: Tus) -> None:
    url = deferred(tus)
    wrong = checksum("sha1", b"other")
    response = tus.patch(url, 0, b"ab", Upload_Length="5", Upload_Checksum=wrong)
    assert response.status_code == 460
    assert tus.head(url).headers["Upload-Defer-Length"] == "1"


def test_rule_32_a_checked_body_keeps_to_the_length_that_it_brings(
    tus: Tus, tus_app: Flask
) -> None:
    url = deferred(tus)
    tus.patch(url, 0, b"abcde")
    right = checksum("sha1", b"fghijk")
    headers = {
        **BYTES,
        "Upload-Offset": "5",
        "Upload-Length": "10",
        "Upload-Checksum": right,
        "Transfer-Encoding": "chunked",
    }
    response = tus.client.patch(
        url,
        headers=headers,
        input_stream=io.BytesIO(b"fghijk"),
        environ_overrides=CHUNKED,
    )
    assert response.status_code == 413
    assert "(10 bytes)" in response.text
    (row,) = rows(tus_app)
    assert (row.offset, row.length) == (5, None)
    told = {"Upload_Length": "11", "Upload_Checksum": right}
    assert tus.patch(url, 5, b"fghijk", **told).status_code == 204
    assert tus.content(url) == b"abcdefghijk"


def test_rule_33_a_deferred_upload_is_capped_by_the_limit(
    app_factory: AppFactory,
) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_MAX_BYTES=4).test_client())
    url = deferred(tus)
    assert tus.patch(url, 0, b"abcde").status_code == 413
    assert tus.patch(url, 0, b"abcd").status_code == 204


# -- creation-with-upload --------------------------------------------------------------


def test_rule_34_the_first_bytes_may_come_with_the_creation(tus: Tus) -> None:
    response = tus.post(b"abc", Upload_Length="6")
    assert response.status_code == 201
    assert response.headers["Upload-Offset"] == "3"
    url = response.headers["Location"]
    tus.patch(url, 3, b"def")
    assert tus.content(url) == b"abcdef"


def test_rule_35_a_body_of_another_type_is_ignored(tus: Tus) -> None:
    headers = {**TUS, "Upload-Length": "3", "Content-Type": "text/plain"}
    response = tus.client.post(BASE, headers=headers, data=b"abc")
    assert response.status_code == 201
    assert "Upload-Offset" not in response.headers
    assert tus.offset(response.headers["Location"]) == 0


def test_rule_36_a_body_longer_than_the_length_creates_nothing(
    tus: Tus, tus_app: Flask
) -> None:
    assert tus.post(b"abcd", Upload_Length="3").status_code == 413
    assert rows(tus_app) == []


@pytest.mark.parametrize("more", [{}, {"Upload-Checksum": checksum("md5", b"abcd")}])
def test_rule_36_a_body_without_a_length_that_does_not_fit_creates_nothing(
    tus: Tus, tus_app: Flask, more: dict[str, str]
) -> None:
    response = tus.client.post(
        BASE,
        headers={**BYTES, "Upload-Length": "3", "Transfer-Encoding": "chunked", **more},
        input_stream=io.BytesIO(b"abcd"),
        environ_overrides=CHUNKED,
    )
    assert response.status_code == 413
    assert "Upload-Expires" not in response.headers
    assert rows(tus_app) == []
    assert stored_files_of(tus_app.instance_path) == []


def test_rule_37_a_checksum_counts_at_creation_too(tus: Tus, tus_app: Flask) -> None:
    wrong = checksum("md5", b"abd")
    response = tus.post(b"abc", Upload_Length="3", Upload_Checksum=wrong)
    assert response.status_code == 460
    assert rows(tus_app) == []
    right = checksum("md5", b"abc")
    response = tus.post(b"abc", Upload_Length="3", Upload_Checksum=right)
    assert tus.content(response.headers["Location"]) == b"abc"


def test_rule_38_a_whole_file_in_one_request_is_complete(
    tus: Tus, tus_app: Flask
) -> None:
    response = tus.post(b"abc", Upload_Length="3")
    assert response.headers["Upload-Offset"] == "3"
    assert rows(tus_app)[0].is_complete


# -- expiration ------------------------------------------------------------------------


def test_rule_39_every_answer_of_an_upload_that_will_expire_says_when(
    tus: Tus,
) -> None:
    created = tus.post(Upload_Length="9")
    url = created.headers["Location"]
    answers = [
        created,
        tus.head(url),
        tus.patch(url, 0, b"abc"),
        tus.patch(url, 0, b"abc"),
        tus.patch(url, 3, b"d", Upload_Checksum=checksum("sha1", b"x")),
    ]
    assert [a.status_code for a in answers] == [201, 200, 204, 409, 460]
    for answer in answers:
        assert answer.headers["Upload-Expires"].endswith(" GMT")


def test_rule_40_an_expired_upload_is_410_and_a_finished_one_does_not_expire(
    tus: Tus, tus_app: Flask
) -> None:
    url, finished = tus.create(3), tus.create(3)
    last = tus.patch(finished, 0, b"abc")
    assert "Upload-Expires" not in last.headers
    engine = registered(tus_app).engine
    now = engine.clock
    engine.clock = lambda: now() + timedelta(days=2)
    assert tus.head(url).status_code == 410
    assert tus.patch(url, 0, b"abc").status_code == 410
    assert tus.content(finished) == b"abc"


# -- checksum --------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", sorted(CHECKSUM_SIZES))
def test_rules_41_and_45_every_algorithm_distinguishes_right_from_wrong(
    tus: Tus, algorithm: str
) -> None:
    url = tus.create(6)
    wrong = checksum(algorithm, b"abd")
    response = tus.patch(url, 0, b"abc", Upload_Checksum=wrong)
    assert (response.status_code, tus.offset(url)) == (460, 0)
    assert response.status == "460 Checksum Mismatch"
    right = checksum(algorithm, b"abc")
    assert tus.patch(url, 0, b"abc", Upload_Checksum=right).status_code == 204
    assert tus.offset(url) == 3


def test_rule_45_crc32_is_four_bytes_most_significant_first(tus: Tus) -> None:
    value = "crc32 " + base64.b64encode(bytes.fromhex("352441c2")).decode()
    response = tus.patch(tus.create(3), 0, b"abc", Upload_Checksum=value)
    assert response.status_code == 204


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha1",
        "sha1 ",
        "SHA1 Zm9v",
        "sha1  Zm9v",
        "crc64 Zm9v",
        "sha1 Zm9v",
        "sha1 $",
    ],
)
def test_rule_42_a_bad_checksum_header_is_400_before_the_body(
    tus: Tus, value: str
) -> None:
    url = tus.create(3)
    assert tus.patch(url, 0, b"abc", Upload_Checksum=value).status_code == 400
    assert tus.offset(url) == 0


def test_rules_43_and_44_the_checksum_is_of_this_body_and_leaves_nothing(
    tus: Tus, tus_app: Flask
) -> None:
    url = tus.create(6)
    tus.patch(url, 0, b"abc")
    of_the_file = checksum("sha1", b"abcdef")
    assert tus.patch(url, 3, b"def", Upload_Checksum=of_the_file).status_code == 460
    root = tus_app.instance_path
    sizes = [len(p.read_bytes()) for p in stored_files_of(root)]
    assert sizes == [3]
    of_the_body = checksum("sha1", b"def")
    assert tus.patch(url, 3, b"def", Upload_Checksum=of_the_body).status_code == 204
    assert tus.content(url) == b"abcdef"


def test_rule_46_a_trailer_that_cannot_arrive_is_refused(tus: Tus) -> None:
    url = tus.create(3)
    response = tus.patch(url, 0, b"abc", Trailer="Upload-Checksum")
    assert (response.status_code, tus.offset(url)) == (400, 0)


# -- termination -----------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"ab", b"abc"], ids=["new", "part", "done"])
def test_rule_47_a_terminated_upload_is_gone_for_every_method(
    tus: Tus, tus_app: Flask, body: bytes
) -> None:
    url = tus.create(3)
    tus.patch(url, 0, body)
    response = tus.delete(url)
    assert (response.status_code, response.data) == (204, b"")
    assert rows(tus_app) == []
    assert stored_files_of(tus_app.instance_path) == []
    assert tus.head(url).status_code == 404
    assert tus.patch(url, 0, b"abc").status_code == 404
    assert tus.delete(url).status_code == 404
    assert tus.client.get(url).status_code == 404
    assert tus.client.put(url, data=b"abc").status_code == 404


def test_rule_47_a_deleted_partial_does_not_damage_its_finals(tus: Tus) -> None:
    a, b = tus.partial(b"abc"), tus.partial(b"def")
    url = tus.final(a, b).headers["Location"]
    tus.delete(a)
    assert tus.content(url) == b"abcdef"


# -- concatenation ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["final", "final;", "final; ", "Partial", "partial ", "x", "", "final:/a"]
)
def test_rule_48_only_the_two_spellings_are_taken(
    tus: Tus, tus_app: Flask, value: str
) -> None:
    response = tus.post(Upload_Length="3", Upload_Concat=value)
    assert response.status_code == 400
    assert rows(tus_app) == []


@pytest.mark.parametrize("header", ["Upload_Length", "Upload_Defer_Length"])
def test_rule_49_a_final_upload_carries_no_length(tus: Tus, header: str) -> None:
    a = tus.partial(b"abc")
    assert tus.final(a, **{header: "1"}).status_code == 400


@pytest.mark.parametrize(
    "shape",
    [
        "{path}",
        "http://localhost{path}",
        "https://proxy.example:8443{path}",
        "{id}",
        "{path}/",
    ],
)
def test_rule_50_urls_may_be_absolute_or_relative(tus: Tus, shape: str) -> None:
    paths = [tus.partial(b"abc"), tus.partial(b"def")]
    urls = [shape.format(path=path, id=path.rsplit("/")[-1]) for path in paths]
    response = tus.final(*urls)
    assert response.status_code == 201, response.text
    assert tus.content(response.headers["Location"]) == b"abcdef"


def test_rule_50_a_blank_after_the_semicolon_is_tolerated(tus: Tus) -> None:
    a = tus.partial(b"abc")
    assert tus.post(Upload_Concat=f"final; {a}").status_code == 201


def test_rule_51_order_is_kept_and_a_partial_may_repeat(tus: Tus) -> None:
    a, b = tus.partial(b"abc"), tus.partial(b"de")
    url = tus.final(b, a, b).headers["Location"]
    assert tus.content(url) == b"deabcde"
    assert tus.content(tus.final(a).headers["Location"]) == b"abc"


def test_rule_52_members_must_be_partial_uploads_of_ours(tus: Tus) -> None:
    a = tus.partial(b"abc")
    assert tus.final(a, tus.create(3)).status_code == 400
    final = tus.final(a).headers["Location"]
    assert tus.final(a, final).status_code == 400
    unknown = BASE + "00000000-0000-4000-8000-000000000000"
    for url in (unknown, "/other/" + a.rsplit("/")[-1], "x", "%ff", BASE):
        assert tus.final(a, url).status_code == 404


def test_rule_53_the_length_is_the_sum_and_has_the_limit(
    app_factory: AppFactory,
) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_MAX_BYTES=5).test_client())
    a, b = tus.partial(b"abc"), tus.partial(b"def")
    assert tus.final(a, b).status_code == 413
    url = tus.final(a).headers["Location"]
    assert tus.head(url).headers["Upload-Length"] == "3"


def test_rule_54_nothing_is_appended_to_a_final_and_metadata_is_its_own(
    tus: Tus,
) -> None:
    response = tus.post(
        b"abc",
        Upload_Length="3",
        Upload_Concat="partial",
        Upload_Metadata=metadata(filename="part"),
    )
    a, b = response.headers["Location"], tus.partial(b"", 3)
    for url in (
        tus.final(a).headers["Location"],
        tus.final(a, b).headers["Location"],
    ):
        assert tus.patch(url, 3, b"x").status_code == 403
        assert "Upload-Metadata" not in tus.head(url).headers


def test_rule_55_head_of_partials_and_finals(tus: Tus) -> None:
    a, b = tus.partial(b"abc"), tus.partial(b"de", 3)
    partial = tus.head(b)
    assert partial.headers["Upload-Concat"] == "partial"
    assert partial.headers["Upload-Offset"] == "2"
    raw = f"final;{a} http://localhost{b}"
    url = tus.post(Upload_Concat=raw).headers["Location"]
    unfinished = tus.head(url)
    assert unfinished.headers["Upload-Concat"] == raw
    assert unfinished.headers["Upload-Length"] == "6"
    assert "Upload-Offset" not in unfinished.headers
    tus.patch(b, 2, b"f")
    assert tus.head(url).headers["Upload-Offset"] == "6"
    assert tus.content(url) == b"abcdef"


def test_rule_57_a_final_of_deferred_members_learns_its_length_late(tus: Tus) -> None:
    response = tus.post(Upload_Defer_Length="1", Upload_Concat="partial")
    a = response.headers["Location"]
    url = tus.final(a).headers["Location"]
    assert "Upload-Length" not in tus.head(url).headers
    assert "Upload-Defer-Length" not in tus.head(url).headers
    tus.patch(a, 0, b"abc", Upload_Length="3")
    assert tus.content(url) == b"abc"


def test_rule_57_a_final_whose_member_is_gone_is_410(tus: Tus) -> None:
    a = tus.partial(b"a", 3)
    url = tus.final(a).headers["Location"]
    tus.delete(a)
    assert tus.head(url).status_code == 410


def test_rule_58_a_repeated_final_is_another_upload_of_the_same_bytes(
    tus: Tus,
) -> None:
    a = tus.partial(b"abc")
    first, second = (tus.final(a).headers["Location"] for _ in range(2))
    assert first != second
    assert tus.content(first) == tus.content(second) == b"abc"


def test_rule_59_a_hundred_relative_urls_are_taken_and_more_are_not(tus: Tus) -> None:
    ids = [tus.partial(b"x").rsplit("/")[-1]] * 101
    assert tus.final(*ids[:100]).status_code == 201
    assert tus.final(*ids).status_code == 400


# -- what clients rely on --------------------------------------------------------------


def test_rule_60_head_has_all_that_clients_test_for(tus: Tus) -> None:
    response = tus.head(tus.create(3))
    assert response.status_code == 200
    assert {"Upload-Offset", "Upload-Length"} <= set(response.headers.keys())


def test_rule_64_a_post_without_the_version_is_of_the_other_dialect(tus: Tus) -> None:
    response = tus.client.post(BASE, headers={"Upload-Length": "3"})
    assert response.status_code == 400
    assert response.json == {"detail": "No chunk file was submitted"}
    assert tus.client.put(BASE, headers=BYTES, data=b"abc").status_code == 405


def stored_files_of(root: str) -> list[Any]:
    return stored_files(Path(root).parent)
