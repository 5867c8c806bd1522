"""The original and this package, asked the same, answer the same, but for a table."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint, create_tables
from flask_chunked.engine.expiry import utcnow
from flask_chunked.registration import registrations
from tests.apps import dispose
from tests.oracle.differences import ABSENT, DIFFERENCES, EVERYWHERE, Difference
from tests.oracle.script import SCRIPT, Step

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        importlib.util.find_spec("drf_chunked_upload") is None
        or importlib.util.find_spec("rest_framework") is None,
        reason="the original is not installed: pip install -e '.[oracle]'",
    ),
]

ROOT = Path(__file__).parents[2]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

Answer = Mapping[str, Any]


class Named(ChunkedUploadBlueprint):
    """Whoever the script says."""

    def get_user_id(self) -> object:
        return request.headers.get("X-User")


class Small(Named):
    max_bytes = 9


class Unchecked(Named):
    do_checksum_check = False


def ask_the_original(directory: Path) -> list[Answer]:
    """Run the script under Django."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.oracle.original", str(directory)],
        input=json.dumps([step.as_json() for step in SCRIPT]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Answer] = json.loads(done.stdout)
    return answers


def ask_ours(directory: Path) -> Iterator[Answer]:
    """Run the script at an app like the original's."""
    app = Flask("tests", instance_path=str(directory / "instance"))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{directory}/ours.db"
    db = SQLAlchemy(app)
    for name, kind in (("uploads", Named), ("small", Small), ("unchecked", Unchecked)):
        app.register_blueprint(kind(name, __name__, db=db), url_prefix=f"/{name}")
    create_tables(app)
    ids: dict[str, str] = {}
    days = 0
    for step in SCRIPT:
        days += step.days
        for here in registrations(app).values():
            here.engine.clock = clock_ahead(days)
        answer = send(app, step, ids)
        if isinstance(answer["json"], dict) and "id" in answer["json"]:
            ids[step.name] = answer["json"]["id"]
        yield answer
    dispose(app)


def clock_ahead(days: int) -> Callable[[], Any]:
    """A clock so many days in the future."""
    return lambda: utcnow() + timedelta(days=days)


def send(app: Flask, step: Step, ids: Mapping[str, str]) -> Answer:
    """Send one request of the script."""
    headers = dict(step.headers)
    if step.user is not None:
        headers["X-User"] = step.user
    answer = app.test_client().open(
        step.path.format(**ids),
        method=step.method,
        data=base64.b64decode(step.body),
        content_type=step.content_type or None,
        headers=headers,
    )
    body = answer.get_json() if answer.is_json and answer.data else None
    return {"status": answer.status_code, "json": body}


def normal(value: Any, name: str = "") -> Any:
    """An answer without what differs from run to run."""
    if isinstance(value, dict):
        return {key: normal(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if value is None:
        return None
    if name in ("id", "upload_id") and re.fullmatch(r"[0-9a-f-]{36}", str(value)):
        return "<id>"
    if name == "url" and re.fullmatch(r"http://[^?#]*/[0-9a-f-]{36}/?", str(value)):
        return "<url>"
    if name == "file" and str(value).endswith((".part", ".done")):
        return "<path>"
    if name in ("created_at", "completed_at") and MOMENT.fullmatch(str(value)):
        return "<moment>"
    if name in ("user", "code", "length", "digest"):
        return f"<{name}>"
    return value


def fields(answer: Answer) -> dict[str, Any]:
    """The keys of an answer's JSON; of a list, what tells one upload from another."""
    body = normal(answer["json"])
    if isinstance(body, list):
        items = [(one["filename"], one["status"], one["offset"]) for one in body]
        keys = sorted({key for one in body for key in one})
        return {"items": items, **({"keys": keys} if keys else {})}
    return body if isinstance(body, dict) else {}


def summary(answer: Answer) -> tuple[int, Any]:
    """Status and detail."""
    body = answer["json"]
    return answer["status"], body.get("detail") if isinstance(body, dict) else None


def compare(step: Step, original: Answer, ours: Answer) -> Iterator[Difference]:
    """What differs in the answers to one step.

    Field by field; status and detail only, where it is another kind of answer.
    """
    if original["status"] != ours["status"]:
        yield Difference(step.name, "answer", summary(original), summary(ours))
        return
    left, right = fields(original), fields(ours)
    for name in sorted({*left, *right}):
        theirs, own = left.get(name, ABSENT), right.get(name, ABSENT)
        if theirs != own:
            yield Difference(step.name, name, theirs, own)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Difference]:
    """All differences of one run of the script."""
    original = ask_the_original(tmp_path_factory.mktemp("original"))
    ours = list(ask_ours(tmp_path_factory.mktemp("ours")))
    assert len(original) == len(ours) == len(SCRIPT)
    return [
        difference
        for step, left, right in zip(SCRIPT, original, ours, strict=True)
        for difference in compare(step, left, right)
    ]


def is_everywhere(difference: Difference) -> bool:
    """Is it one of the differences that every answer about an upload has?"""
    return (difference.field, difference.original, difference.ours) in EVERYWHERE


def test_names_of_steps_are_unique() -> None:
    names = [step.name for step in SCRIPT]
    assert len(set(names)) == len(names)


def test_no_answer_differs_that_is_not_listed(found: list[Difference]) -> None:
    listed = [difference for group in DIFFERENCES.values() for difference in group]
    unlisted = [
        difference
        for difference in found
        if difference not in listed and not is_everywhere(difference)
    ]
    assert unlisted == []


@pytest.mark.parametrize("reason", DIFFERENCES)
def test_listed_differences_are_really_there(
    found: list[Difference], reason: str
) -> None:
    missing = [item for item in DIFFERENCES[reason] if item not in found]
    assert missing == []


@pytest.mark.parametrize("item", EVERYWHERE, ids=lambda item: item[0])
def test_differences_of_every_answer_are_really_there(
    found: list[Difference], item: tuple[str, Any, Any]
) -> None:
    assert item in [(one.field, one.original, one.ours) for one in found]
