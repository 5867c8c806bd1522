"""tus: final uploads. Rules 48 to 59 of docs/tus.rst, by number."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.apps import rows
from tests.conftest import AppFactory
from tests.dialects.tus import BASE, Tus, metadata


def test_rule_47_a_deleted_partial_does_not_damage_its_finals(tus: Tus) -> None:
    a, b = tus.partial(b"abc"), tus.partial(b"def")
    url = tus.final(a, b).headers["Location"]
    tus.delete(a)
    assert tus.content(url) == b"abcdef"


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
