"""The application looks at the bodies of uploads: before, in hooks and afterwards.

tests/servers/test_looking_at_bodies.py does the same on real servers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.apps import dispose
from tests.looks import EXCHANGES, MOMENTS, TAKING, WAYS, Answer, check, looking_app

#: Werkzeug's test client does not pass chunked bodies on.
SENDABLE = [name for name in EXCHANGES if name != "chunked PATCH"]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    tmp: Path = tmp_path_factory.mktemp("app")
    made = looking_app(tmp)
    yield made
    dispose(made)


class ViaTestClient:
    """Sends requests with Werkzeug's test client."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client()

    def __call__(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> Answer:
        with self._client.open(path, method=method, data=body, headers=headers) as got:
            return Answer(got.status_code, dict(got.headers), got.data)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SENDABLE)
def test_a_look_changes_no_byte(app: Flask, name: str, way: str, moment: str) -> None:
    answer = check(ViaTestClient(app), name, way, moment)
    if moment == "before":
        assert (answer.status == 500) == (way in TAKING)
    elif moment in ("verify", "on_completion", "after"):
        assert answer.status != 500


def test_a_refusal_names_its_cause_to_the_developer(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        check(ViaTestClient(app), "raw PUT", "stream", "before")
    (record,) = [one for one in caplog.records if one.exc_info]
    assert record.exc_info is not None
    assert "(16 of them by the application)" in str(record.exc_info[1])
    assert "request.get_data()" in str(record.exc_info[1])
