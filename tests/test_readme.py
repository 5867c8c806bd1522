"""The README tells the truth: its code runs, its tables name what is there."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import click
import pytest
import requests
from blinker import Signal
from flask import Blueprint, Flask, g, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from werkzeug.utils import secure_filename

import flask_chunked
from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    cli,
    create_tables,
    upload_completed,
)
from flask_chunked.config.settings import SETTINGS
from flask_chunked.engine.gate import Action
from flask_chunked.policy import UploadPolicy
from tests.apps import dispose, rows
from tests.conftest import NewApp
from tests.documents import README, code, literals, section, tables
from tests.exchange import put_raw
from tests.servers.gunicorn import free_port
from tests.stub_server import StoppedClock
from tests.test_resuming_clients import sending_loop

HERE = "http://127.0.0.1:5000"
MP4 = b"\0\0\0\x18ftypmp42" + bytes(6000)


def run(block: str, names: dict[str, Any]) -> dict[str, Any]:
    """Execute a block as a file of its own would be."""
    # This module's future statement is not the block's.
    exec(compile(block, "README.rst", "exec", dont_inherit=True), names)
    return names


# -- tables ----------------------------------------------------------------------------


def test_settings_are_those_of_the_code() -> None:
    told = [row[:2] for table in tables(section(README, "Settings")) for row in table]
    names = {"timedelta": timedelta}
    values = [(key, eval(value, names)) for key, value in told if key != "Key"]
    assert values == [(setting.key, setting.default) for setting in SETTINGS]


def test_attributes_are_those_of_the_blueprint() -> None:
    own, _ = tables(section(README, "Policy"))
    (paragraph,) = (
        node
        for node in section(README, "Settings").children
        if node.astext().startswith("These attributes of a blueprint")
    )
    told = {*(row[0] for row in own), *literals(paragraph)}
    declared = set(UploadPolicy.__annotations__)
    assert told == declared - {"db", "upload_path"} | {"path"}


def test_defaults_of_attributes_are_told() -> None:
    own, _ = tables(section(README, "Policy"))
    for name, meaning in own:
        default = getattr(ChunkedUploadBlueprint, name)
        if isinstance(default, str | int):
            shown = f'"{default}"' if isinstance(default, str) else str(default)
            assert meaning.endswith(shown), name


def test_methods_are_those_of_the_blueprint() -> None:
    _, hooks = tables(section(README, "Policy"))
    (files,) = tables(section(README, "The finished file"))
    told = [signature.removeprefix("blueprint.") for signature, _ in (*hooks, *files)]
    public = {
        name
        for declared in (UploadPolicy, ChunkedUploadBlueprint)
        for name, member in vars(declared).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    names = {name.partition("(")[0] for name in told}
    short = {"open", "move", "delete"}
    assert short < set(literals(section(README, "The finished file")))
    ours = {name for name in public if not hasattr(Blueprint, name)}
    assert names == (ours | {"delete_upload"}) - short - {"overrides"}
    for signature in told:
        name, _, arguments = signature.rstrip(")").partition("(")
        wanted = list(
            inspect.signature(getattr(ChunkedUploadBlueprint, name)).parameters
        )
        assert len(wanted) == 1 + len(arguments.split(", ") if arguments else [])


def test_actions_are_those_that_authorize_is_asked_for() -> None:
    _, hooks = tables(section(README, "Policy"))
    (meaning,) = (text for name, text in hooks if name.startswith("authorize"))
    words = set(re.findall(r"[a-z]+", meaning))
    assert {action.value for action in Action} <= words


def test_every_signal_is_named() -> None:
    ours = {
        name
        for name in flask_chunked.__all__
        if isinstance(getattr(flask_chunked, name), Signal)
    }
    assert ours <= set(literals(section(README, "Signals")))


def test_commands_are_those_of_the_command_line() -> None:
    listed, *_ = code(section(README, "On the command line"), "")
    words = [line.split()[2:] for line in listed.splitlines()]
    commands = cli.group.commands
    assert {name for name, *_ in words} == set(commands)
    for name, *rest in words:
        known = {option for p in commands[name].params for option in p.opts}
        used = {word.strip("[]") for word in rest if word.strip("[").startswith("-")}
        assert used <= known, name


def test_which_commands_print_json() -> None:
    def takes_json(command: click.Command) -> bool:
        return any("--json" in parameter.opts for parameter in command.params)

    without = [
        n for n, command in cli.group.commands.items() if not takes_json(command)
    ]
    assert without == ["delete"]


# -- the quickstart and the protocol, on a server --------------------------------------


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[str]:
    """The quickstart as a reader starts it; its address."""
    (block,) = code(section(README, "Quickstart"))
    (tmp_path / "app.py").write_text(block)
    port = free_port()
    with serving(tmp_path, "flask", "run", "--port", str(port)):
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/uploads/")
        yield url


@contextmanager
def serving(cwd: Path, module: str, *arguments: str) -> Iterator[None]:
    """A server in a process of its own, for the length of the block."""
    log = cwd / f"{module}.log"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASK_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=cwd,
            env=clean,
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)
    assert "Traceback" not in log.read_text()


def wait_for(url: str) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            requests.get(url, timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(f"nothing answers at {url}")


def test_protocol_runs_against_the_quickstart(quickstart: str, tmp_path: Path) -> None:
    blocks = code(section(README, "The protocol"))
    assert len(blocks) >= 8 and HERE in blocks[0]
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        answers = _answers(patch)
        for block in blocks:
            run(block.replace(HERE, quickstart), names)
    (shown, refusal) = (
        json.loads(text) for text in code(section(README, "The protocol"), "json")
    )
    assert answers[0].json().keys() == shown.keys()
    assert {key: answers[0].json()[key] for key in ("file", "offset", "status")} == {
        key: shown[key] for key in ("file", "offset", "status")
    }
    assert {answer.status_code for answer in answers} == {200, 204}
    kept = sorted((tmp_path / "instance/chunked_uploads").rglob("*.done"))
    # The large one was deleted in the end; the one of one request is still there.
    assert [path.read_bytes() for path in kept] == [b"all of it"]
    begun = _begin(quickstart, tmp_path / "large.bin")
    wrong = requests.put(
        begun, data=b"0", headers={"Content-Range": "bytes 0-0/3000000"}, timeout=30
    )
    assert wrong.json() == refusal


def test_sending_loop_sends_the_rest(quickstart: str, tmp_path: Path) -> None:
    url = _begin(quickstart, tmp_path / "large.bin")
    clock = StoppedClock()
    sending_loop(clock)(tmp_path / "large.bin", url, 3_000_000, chunk_size=2**20)
    (stored,) = (tmp_path / "instance/chunked_uploads").rglob("*.part")
    assert stored.read_bytes() == (tmp_path / "large.bin").read_bytes()
    assert clock.pauses == []


def _begin(server: str, file: Path) -> str:
    """Ten bytes of a file of 3,000,000 are there; the upload's URL."""
    content = os.urandom(3_000_000)
    file.write_bytes(content)
    answer = requests.put(
        f"{server}/uploads/",
        data=content[:10],
        headers={"Content-Range": "bytes 0-9/3000000"},
        timeout=30,
    )
    return str(answer.json()["url"])


def _answers(patch: pytest.MonkeyPatch) -> list[requests.Response]:
    """Collects what ``requests`` is answered."""
    seen: list[requests.Response] = []
    send = requests.Session.send

    def spy(self: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
        seen.append(send(self, *args, **kwargs))
        return seen[-1]

    patch.setattr(requests.Session, "send", spy)
    return seen


# -- policy, signals, maintenance ------------------------------------------------------


@pytest.fixture
def videos(tmp_path: Path) -> Iterator[Flask]:
    """An app with the README's policy."""
    app = Flask("readme", instance_path=str(tmp_path / "instance"))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/app.db"
    db = SQLAlchemy(app)
    _, block, *_ = code(section(README, "Policy"))
    has_virus = "lambda file: b'virus' in file.read(100_000)"
    run(
        block,
        {"app": app, "db": db, "__name__": "readme", "has_virus": eval(has_virus)},
    )
    create_tables(app)

    @app.before_request
    def log_in() -> None:
        g.user = SimpleNamespace(name="ann", is_customer=False)

    yield app
    dispose(app)


def test_error_handler_example_works(videos: Flask) -> None:
    (block,) = code(section(README, "Hooks and Flask"))
    run(block, {"app": videos})
    answer = videos.test_client().get("/videos/x")
    error = {"code": "unknown_upload", "message": "Not found."}
    assert (answer.status_code, answer.get_json()) == (404, {"error": error})


def test_example_of_projects_works(new_app: NewApp) -> None:
    db = SQLAlchemy()

    class Document(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        project_id: Mapped[int]

    app = new_app(db)
    block, *_ = code(section(README, "Policy"))
    known = {
        "ChunkedUploadBlueprint": ChunkedUploadBlueprint,
        "Document": Document,
        "request": request,
        "secure_filename": secure_filename,
    }
    names = run(block, {"app": app, "__name__": "readme", **known})
    create_tables(app)
    client = app.test_client()
    answer = put_raw(
        client, b"abc", url="/projects/7/files/", fields={"filename": "a b.txt"}
    )
    assert answer.json is not None
    assert client.get(answer.json["url"].replace("/7/", "/8/")).status_code == 404
    (row,) = rows(app, "documents")
    assert row.extra == {"project_id": 7}
    assert row.storage_key == f"projects/7/a_b.txt-{row.id}"
    assert names["documents"].name == "documents"


def test_policy_example_works(videos: Flask, tmp_path: Path) -> None:
    client = videos.test_client()

    def post(name: str, data: bytes, **fields: str) -> tuple[int, Any]:
        answer = client.post(
            "/videos/",
            query_string={
                "filename": name,
                "sha256": hashlib.sha256(data).hexdigest(),
                **fields,
            },
            data=data,
            content_type="application/octet-stream",
        )
        return answer.status_code, answer.get_json()

    assert post("a.mp4", MP4)[1]["detail"] == "Invalid or missing fields: title"
    assert post("a.txt", MP4, title="T") == (
        422,
        {"detail": "Only .mp4 files are accepted", "code": "rejected"},
    )
    assert post("a.mp4", b"no", title="T")[1]["detail"] == "This is not an MP4 file"
    ill = post("a.mp4", MP4 + b"virus", title="T")
    assert ill == (
        422,
        {"detail": "This file contains a virus", "code": "rejected"},
    )
    status, body = post("a.mp4", MP4, title="T")
    assert (status, body["title"]) == (200, "T")
    (moved,) = (tmp_path / "instance/library").iterdir()
    assert moved.read_bytes() == MP4
    url = f"/videos/{body['id']}"
    assert client.get(url).get_json()["user"] == "ann"
    assert client.delete(url).status_code == 403
    fields = {"title": "T", "filename": "a.mp4"}
    large = put_raw(client, b"-", total=2**30 + 1, url="/videos/", fields=fields)
    assert large.status_code == 400


class ValidationError(Exception):
    """Stands for the one of Flask-WTF's library."""


@pytest.fixture
def guarded(new_app: NewApp, tmp_path: Path) -> Flask:
    """An app with the README's check of CSRF tokens, the good one being ``good``."""
    app = new_app(SQLAlchemy())

    def validate_csrf(token: str | None) -> None:
        if token != "good":
            raise ValidationError

    (block,) = (
        block
        for block in code(section(README, "Deployment"))
        if "validate_csrf" in block
    )
    names: dict[str, Any] = {
        **{"app": app, "__name__": "guarded", "request": request},
        **{"ChunkedUploadBlueprint": ChunkedUploadBlueprint, "CSRFProtect": Mock()},
        **{"ValidationError": ValidationError, "validate_csrf": validate_csrf},
    }
    run(block, names)
    create_tables(app)
    return app


TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Offset": "0"}
BYTES = "application/offset+octet-stream"


OVERRIDES = ("", "PUT", "PATCH", "DELETE", "POST", "GET", "HEAD")


def test_csrf_example_lets_nothing_change_without_a_token(guarded: Flask) -> None:
    client = guarded.test_client()
    good = {**TUS, "X-CSRFToken": "good"}
    url = client.post("/uploads/", headers=good).headers["Location"]
    (before,) = rows(guarded)
    for real, override, path, token, spoken in product(
        ("GET", "HEAD", "POST"), OVERRIDES, (url, "/uploads/"), ("", "bad"), (TUS, {})
    ):
        headers = {**TUS, "Content-Range": "bytes 0-2/3", "X-CSRFToken": token}
        headers["X-HTTP-Method-Override"] = override
        if not spoken:
            del headers["Tus-Resumable"]
        client.open(path, method=real, headers=headers, data=b"abc", content_type=BYTES)
        assert rows(guarded) == [before], (real, headers)
    patched = client.patch(url, headers=good, data=b"abc", content_type=BYTES)
    assert patched.status_code == 204


@pytest.mark.parametrize("override", ["GET", "HEAD"])
def test_csrf_example_asks_for_no_token_to_read(guarded: Flask, override: str) -> None:
    client = guarded.test_client()
    good = {**TUS, "X-CSRFToken": "good"}
    url = client.post("/uploads/", headers=good).headers["Location"]
    assert client.open(url, method=override).status_code == 200
    headers = {**TUS, "X-HTTP-Method-Override": override}
    assert client.post(url, headers=headers).status_code == 200
    assert client.get("/uploads/").status_code == 200


def test_signal_example_hears(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    (block,) = code(section(README, "Signals"))
    names = run(block, {})
    try:
        with caplog.at_level(logging.INFO):
            put = put_raw(app.test_client(), b"hello", fields={"filename": "a.bin"})
            app.test_client().post(
                put.get_json()["url"],
                data={"md5": "5d41402abc4b2a76b9719d911017c592"},
            )
    finally:
        upload_completed.disconnect(names["log_completion"])
    assert "a.bin is complete, 5 bytes" in caplog.text


def test_maintenance_example_runs(app: Flask) -> None:
    (block,) = code(section(README, "On the command line"))
    run(block, {"app": app})
