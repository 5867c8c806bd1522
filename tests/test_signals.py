"""Signals: sent after the commit, with a frozen snapshot; receivers cannot refuse."""

from __future__ import annotations

import dataclasses
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from blinker import Signal
from flask import Flask

from flask_chunked import (
    Upload,
    chunk_received,
    delete_expired,
    upload_completed,
    upload_created,
    upload_expired,
    upload_terminated,
)

from .apps import rows
from .exchange import begin, finish, post_whole, put_form, put_raw, send

ALL = {
    "created": upload_created,
    "chunk": chunk_received,
    "completed": upload_completed,
    "terminated": upload_terminated,
    "expired": upload_expired,
}
Act = Callable[[Flask], object]


@contextmanager
def connected(app: Flask, receiver: Callable[..., None], *names: str) -> Iterator[None]:
    """The receiver listens to the signals of that app."""
    with_names = [(name, ALL[name]) for name in names or ALL]
    kept = []
    for name, signal in with_names:

        def receive(sender: object, upload: Upload, _name: str = name) -> None:
            receiver(_name, upload)

        signal.connect(receive, sender=app)
        kept.append((signal, receive))
    try:
        yield
    finally:
        for signal, receive in kept:
            signal.disconnect(receive, sender=app)


def _terminate(app: Flask) -> None:
    client = app.test_client()
    client.delete(begin(client, b"abc", 6))


def _delete(app: Flask) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 3)
    finish(client, url, b"abc")
    client.delete(url)


def _expire(app: Flask) -> None:
    begin(app.test_client(), b"abc", 6)
    with closing(sqlite3.connect(database_of(app))) as database:
        database.execute("UPDATE chunked_upload SET last_activity_at = '2000-01-01'")
        database.commit()
    with app.app_context():
        assert len(list(delete_expired())) == 1


def _two_chunks(app: Flask) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 6)
    put_form(client, b"def", start=3, total=6, url=url)
    finish(client, url, b"abcdef")
    finish(client, url, b"abcdef")


def database_of(app: Flask) -> str:
    return str(app.config["SQLALCHEMY_DATABASE_URI"]).removeprefix("sqlite:///")


STORIES: dict[str, tuple[Act, list[str]]] = {
    "chunks": (_two_chunks, ["created", "chunk", "chunk", "completed"]),
    "whole": (
        lambda app: post_whole(app.test_client(), b"abc"),
        ["created", "chunk", "completed"],
    ),
    "empty": (
        lambda app: send(app.test_client(), b""),
        ["created", "completed"],
    ),
    "terminate": (_terminate, ["created", "chunk", "terminated"]),
    "delete": (_delete, ["created", "chunk", "completed", "terminated"]),
    "expire": (_expire, ["created", "chunk", "expired"]),
}


@pytest.mark.parametrize(("act", "expected"), STORIES.values(), ids=STORIES)
def test_each_event_is_announced_once(
    app: Flask, act: Act, expected: list[str]
) -> None:
    heard: list[str] = []
    with connected(app, lambda name, upload: heard.append(name)):
        act(app)
    assert heard == expected


@pytest.mark.parametrize(("act", "expected"), STORIES.values(), ids=STORIES)
def test_receivers_see_the_committed_row_from_outside(
    app: Flask, act: Act, expected: list[str]
) -> None:
    heard: list[str] = []

    def look(name: str, upload: Upload) -> None:
        with closing(sqlite3.connect(database_of(app), timeout=0)) as other:
            found = other.execute(
                'SELECT "offset", status FROM chunked_upload WHERE id = ?',
                (upload.id.hex,),
            ).fetchone()
            # Even a write does not wait: no transaction is open during the signal.
            other.execute("UPDATE chunked_upload SET attempts = attempts")
            other.commit()
        gone = name in ("terminated", "expired")
        assert found == (None if gone else (upload.offset, upload.status.value))
        heard.append(name)

    with connected(app, look):
        act(app)
    assert heard == expected


@pytest.mark.parametrize("name", ALL)
def test_a_raising_receiver_changes_nothing(
    app: Flask, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    heard: list[str] = []

    def fail(name: str, upload: Upload) -> None:
        heard.append(name)
        raise RuntimeError("not my day")

    def story() -> list[int]:
        client = app.test_client()
        answers = [put_raw(client, b"abc", total=6)]
        url = answers[0].json["url"]  # type: ignore[index]
        answers.append(put_raw(client, b"def", start=3, url=url))
        answers.append(finish(client, url, b"abcdef"))
        answers.append(client.delete(url))
        return [answer.status_code for answer in answers]

    with connected(app, fail, name):
        assert story() == [200, 200, 200, 204]
        _expire(app)
    assert set(heard) == {name}
    assert rows(app) == []
    assert "not my day" in caplog.text


def test_a_raising_receiver_does_not_silence_the_next(app: Flask) -> None:
    heard: list[str] = []

    def fail(name: str, upload: Upload) -> None:
        heard.append(name)
        raise RuntimeError

    with connected(app, fail, "created"), connected(app, fail, "created"):
        put_raw(app.test_client(), b"abc")
    assert heard == ["created", "created"]


def test_the_snapshot_is_frozen_and_travels(app: Flask) -> None:
    seen: list[Upload] = []
    with connected(app, lambda name, upload: seen.append(upload)):
        send(app.test_client(), b"abc")
    for upload in seen:
        with pytest.raises(dataclasses.FrozenInstanceError):
            upload.offset = 7  # type: ignore[misc]
        with pytest.raises(AttributeError):
            upload.unheard_of  # noqa: B018
        assert pickle.loads(pickle.dumps(upload)) == upload
    # The first bytes came with the row.
    assert [upload.offset for upload in seen] == [3, 3, 3]


def test_the_sender_is_the_app(app: Flask, tmp_path: Path, app_factory: Any) -> None:
    other = app_factory(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/other.db",
    )
    senders: list[object] = []

    def receive(sender: object, upload: Upload) -> None:
        senders.append(sender)

    signal: Signal = upload_created
    with signal.connected_to(receive):
        put_raw(app.test_client(), b"abc")
        put_raw(other.test_client(), b"abc")
    assert senders == [app, other]


def test_a_refused_chunk_is_not_announced(app: Flask) -> None:
    heard: list[str] = []
    client = app.test_client()
    url = begin(client, b"abc", 6)
    with connected(app, lambda name, upload: heard.append(name)):
        put_raw(client, b"x", start=5, total=6, url=url)
        put_raw(client, b"abc", total=6, url=url)
        finish(client, url, b"abc")
    assert heard == []
