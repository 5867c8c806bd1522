"""Members are named by their URLs, however they are spelt and wherever they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps import rows
from tests.conftest import AppFactory
from tests.dialects.tus import Tus

BASES = [
    pytest.param("/uploads", "/uploads/", "", id="plain"),
    pytest.param("/übertragung", "/übertragung/", "", id="umlaut"),
    pytest.param("/my files", "/my files/", "", id="blank"),
    pytest.param("/100%", "/100%25/", "", id="percent"),
    pytest.param("/<who>/uploads", "/red/uploads/", "", id="view argument"),
    pytest.param("/<who>/uploads", "/Müller & Co/uploads/", "", id="view, umlaut"),
    pytest.param("/<who>/uploads", "/a~b!(c)/uploads/", "", id="view, marks"),
    pytest.param("/<who>/uploads", "/me@example.org/uploads/", "", id="view, at"),
    pytest.param("/<who>/uploads", "/a+b;c=d/uploads/", "", id="view, plus"),
    pytest.param("/uploads", "/uploads/", "/my app", id="script name"),
    pytest.param("/uploads", "/uploads/", "/ä", id="script name, umlaut"),
]


class Mounted(FlaskClient):
    """A client of an application below ``SCRIPT_NAME``."""

    mount = ""

    def open(self, *args: Any, **more: Any) -> Any:
        more["base_url"] = "http://localhost" + self.mount
        return super().open(*args, **more)

    def path(self, location: str) -> str:
        """What the server sees of a URL's path."""
        path = unquote(urlsplit(location).path)
        assert path.startswith(self.mount)
        return path.removeprefix(self.mount)


def mounted(app: Flask, mount: str) -> Mounted:
    app.test_client_class = Mounted
    client = app.test_client()
    assert isinstance(client, Mounted)
    client.mount = mount
    return client


@pytest.mark.parametrize(("prefix", "base", "script"), BASES)
def test_a_final_is_made_below_every_prefix(
    app_factory: AppFactory, prefix: str, base: str, script: str
) -> None:
    app = app_factory(url_prefix=prefix, CHUNKED_UPLOAD_DOWNLOADS=True)
    client = mounted(app, script)
    tus = Tus(client, base)
    complete, waiting = tus.partial(b"abc"), tus.partial(b"d", 3)
    finals = [tus.final(complete), tus.final(complete, waiting)]
    assert [answer.status_code for answer in finals] == [201, 201], finals[0].text
    assert tus.patch(client.path(waiting), 1, b"ef").status_code == 204
    paths = [client.path(answer.headers["Location"]) for answer in finals]
    assert [tus.content(path) for path in paths] == [b"abc", b"abcdef"]


def test_a_final_is_found_through_another_mount_than_it_was_made_through(
    app_factory: AppFactory,
) -> None:
    app = app_factory(CHUNKED_UPLOAD_DOWNLOADS=True)
    far = mounted(app, "/app")
    made = Tus(far)
    parts = [made.partial(b"abc"), made.partial(b"d", 3)]
    assert parts[0].startswith("/app/uploads/")
    final = far.path(made.final(*parts).headers["Location"])
    near = mounted(app, "")
    tus = Tus(near)
    assert tus.head(final).status_code == 200
    assert near.get(final).status_code == 200
    assert tus.patch(far.path(parts[1]), 1, b"ef").status_code == 204
    assert tus.head(final).headers["Upload-Offset"] == "6"
    assert tus.content(final) == b"abcdef"


SPELLINGS: list[Callable[[str], str]] = [
    lambda url: url,
    lambda url: "/uploads/" + url.rpartition("/")[2].upper(),
    lambda url: url.replace("-", "%2D"),
    lambda url: url + "/",
    lambda url: url.rpartition("/")[2],
    lambda url: "./" + url.rpartition("/")[2],
    lambda url: "https://elsewhere.example" + url + "?a=b#c",
    lambda url: "//elsewhere.example" + url,
    lambda url: url.replace("/uploads/", "/up%6Coads/"),
]
OTHERS: list[Callable[[str], str]] = [
    lambda url: url.replace("/uploads/", "/other/"),
    lambda url: url + "/file",
    lambda url: "/uploads/" + "0" * 32,
    lambda url: url.replace("/uploads/", "/uploads/%2E%2E/"),
    lambda url: url.replace("/uploads/", "/uploads/%FF"),
]


def test_a_final_that_waits_is_made_by_its_member_however_that_was_spelt(
    app_factory: AppFactory,
) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_DOWNLOADS=True).test_client())
    for spell in SPELLINGS:
        member = tus.partial(b"ab", 3)
        final = tus.final(spell(member))
        assert final.status_code == 201, spell(member)
        assert tus.patch(member, 2, b"c").status_code == 204
        # Made in that very request: no client had to ask again.
        assert tus.content(final.headers["Location"]) == b"abc", spell(member)


def test_what_names_no_upload_of_ours_is_not_found(app_factory: AppFactory) -> None:
    app = app_factory()
    tus = Tus(app.test_client())
    member = tus.partial(b"abc")
    for spell in OTHERS:
        assert tus.final(spell(member)).status_code == 404, spell(member)
    assert len(rows(app)) == 1
