"""tus: the rules of docs/tus.rst for clients and hooks: 14, 56, 61 to 63."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask, Response, jsonify

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError
from flask_chunked.engine.records import Upload
from tests.conftest import AppFactory
from tests.dialects.faults import database_failing
from tests.dialects.tus import BASE, BYTES, TUS, Tus, metadata


class Recording(ChunkedUploadBlueprint):
    """Records its calls; answers completions with JSON of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked: list[tuple[str, str]] = []

    def verify(self, upload: Upload) -> None:
        self.asked.append(("verify", upload.filename))
        if upload.filename == "refused":
            raise ChunkedUploadError("This is not wanted")

    def deliver(self, upload: Upload) -> None:
        self.asked.append(("deliver", upload.filename))

    def on_completion(self, upload: Upload) -> Response | None:
        return jsonify(number=42) if upload.filename == "answered" else None


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(blueprint_class=Recording)


@pytest.fixture
def tus(app: Flask) -> Tus:
    return Tus(app.test_client())


def asked(app: Flask) -> list[tuple[str, str]]:
    blueprint = app.blueprints["uploads"]
    assert isinstance(blueprint, Recording)
    return blueprint.asked


def name(text: str) -> dict[str, str]:
    return {"Upload_Metadata": metadata(filename=text)}


def test_rule_14_what_arrived_of_a_cut_body_is_stored(tus: Tus) -> None:
    url = tus.create(10)
    answer = tus.client.patch(
        url,
        headers={**BYTES, "Upload-Offset": "0", "Content-Length": "10"},
        input_stream=io.BytesIO(b"0123"),
        environ_overrides={"CONTENT_LENGTH": "10"},
    )
    # A 5xx, which clients repeat (rule 61).
    assert answer.status_code == 503
    assert tus.offset(url) == 4


def test_rule_56_partial_uploads_are_material_only(tus: Tus, app: Flask) -> None:
    parts = [tus.partial(body) for body in (b"abc", b"def")]
    assert asked(app) == []
    assert tus.final(*parts, **name("whole")).status_code == 201
    assert asked(app) == [("verify", "whole"), ("deliver", "whole")]


def test_rule_61_what_may_be_repeated_is_a_5xx_or_409(tus: Tus, app: Flask) -> None:
    url = tus.create(3)
    with database_failing(app, "UPDATE"):
        answer = tus.patch(url, 0, b"abc")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert tus.patch(url, 1, b"bc").status_code == 409
    assert tus.patch(url, 0, b"abc").status_code == 204


def test_rule_61_what_may_not_be_repeated_is_another_4xx(tus: Tus) -> None:
    refused = tus.create(3, **name("refused"))
    assert tus.patch(refused, 0, b"abc").status_code == 422
    url = tus.create(3)
    for answer in (
        tus.patch(url, 0, b"abcd"),
        tus.patch(url, "x", b"abc"),
        tus.patch(url, 0, b"abc", Content_Type="text/plain"),
        tus.patch(url, 0, b"abc", Upload_Checksum="md4 xx"),
        tus.patch(BASE + "unknown", 0, b"abc"),
    ):
        assert 400 <= answer.status_code < 500
        assert answer.status_code not in (409, 423)


def test_rule_62_every_answer_tuspy_reads_has_what_it_reads(tus: Tus) -> None:
    # It also sends this header without a value.
    created = tus.post(Upload_Length="3", Upload_Metadata="")
    assert (created.status_code, "Location" in created.headers) == (201, True)
    url = created.headers["Location"]
    head = tus.head(url)
    assert (head.status_code, head.headers["Upload-Offset"]) == (200, "0")
    assert "Upload-Metadata" not in head.headers
    assert tus.patch(url, 0, b"abc").headers["Upload-Offset"] == "3"


@pytest.mark.parametrize("at_once", [True, False])
def test_rule_63_the_application_may_answer_the_last_request(
    tus: Tus, at_once: bool
) -> None:
    if at_once:
        answer = tus.post(b"abc", Upload_Length="3", **name("answered"))
    else:
        answer = tus.patch(tus.create(3, **name("answered")), 0, b"abc")
    # Status and body come from the application, headers from the protocol.
    assert answer.status_code == 200
    assert ("Location" in answer.headers) is at_once
    assert answer.get_json() == {"number": 42}
    assert answer.headers["Upload-Offset"] == "3"
    assert answer.headers["Tus-Resumable"] == TUS["Tus-Resumable"]
