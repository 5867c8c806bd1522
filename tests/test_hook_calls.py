"""Hooks as Flask users write them: coroutine functions, partials, objects, mistakes.

A coroutine function must have the same outcome as a plain function that does the same,
and an awaitable that nothing awaits must never be a yes.
"""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask, abort, g, request
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import false, select
from werkzeug.test import TestResponse

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ConfigurationError,
    chunk_received,
    hook_calls,
    upload_completed,
)
from flask_chunked.policy import HOOKS
from tests.apps import registered, rows
from tests.conftest import AppFactory, NewApp
from tests.dialects.tus import BASE, BYTES, TUS, Tus
from tests.exchange import begin, finish, md5, post_whole, put_form, put_raw, send

Hook = Callable[..., Any]


def refuse(self: Any, *args: Any) -> Any:
    raise ChunkedUploadError("no", status=422)


def fail(self: Any, *args: Any) -> Any:
    raise OSError("the queue is away")


def hide(self: Any) -> Any:
    return select(self.registration.model).where(false())


def returns(value: object) -> Hook:
    return lambda self, *args: value


#: Hook -> what it does here; each changes the outcome of a transfer.
DEEDS: dict[str, Hook] = {
    "get_user_id": returns("ann"),
    "get_max_bytes": returns(3),
    "get_max_open_uploads": returns(0),
    "get_max_total_bytes": returns(3),
    "get_max_stored_bytes": returns(3),
    "get_fields": refuse,
    "get_path": refuse,
    "new_name": refuse,
    "get_query": hide,
    "authorize": returns(False),
    "validate": refuse,
    "inspect": refuse,
    "verify": refuse,
    "deliver": fail,
    "on_completion": returns({"own": 1}),
}


class Caller:
    """An object that is called as a function, on behalf of the blueprint."""

    def __init__(self, deed: Hook, blueprint: Any = None) -> None:
        self.deed = deed
        self.blueprint = blueprint

    def __get__(self, instance: Any, owner: type) -> Caller:
        return type(self)(self.deed, instance)


class AsyncCaller(Caller):
    async def __call__(self, *args: Any) -> Any:
        await asyncio.sleep(0)
        return self.deed(self.blueprint, *args)


class EagerCaller(Caller):
    def __call__(self, *args: Any) -> Any:
        return as_coroutine_function(self.deed)(self.blueprint, *args)


def as_coroutine_function(deed: Hook) -> Hook:
    async def hook(self: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        return deed(self, *args)

    return hook


def as_partial(deed: Hook) -> Hook:
    async def hook(self: Any, more: str, *args: Any) -> Any:
        assert more == "more"
        return deed(self, *args)

    return functools.partialmethod(hook, "more")  # type: ignore[return-value]


def as_static(deed: Hook) -> Any:
    async def hook(*args: Any) -> Any:
        return deed(None, *args)

    return staticmethod(hook)


def as_decorated(deed: Hook) -> Hook:
    """As Flask-Login's ``login_required`` wraps views."""
    function = as_coroutine_function(deed)

    @functools.wraps(function)
    def hook(self: Any, *args: Any) -> Any:
        from flask import current_app

        return current_app.ensure_sync(function)(self, *args)

    return hook


#: Ways to write a coroutine function, which is awaited.
AWAITED: dict[str, Callable[[Hook], Any]] = {
    "async def": as_coroutine_function,
    "partial": as_partial,
    "static": as_static,
    "object": AsyncCaller,
    "decorated": as_decorated,
}


def as_plain_def(deed: Hook) -> Hook:
    return lambda self, *args: as_coroutine_function(deed)(self, *args)


def as_badly_decorated(deed: Hook) -> Hook:
    function = as_coroutine_function(deed)

    @functools.wraps(function)
    def hook(self: Any, *args: Any) -> Any:
        return function(self, *args)

    return hook


class Later:
    def __await__(self) -> Iterator[None]:
        yield None


def as_generator(deed: Hook) -> Hook:
    def hook(self: Any, *args: Any) -> Any:
        yield deed(self, *args)

    return hook


def as_async_generator(deed: Hook) -> Hook:
    async def hook(self: Any, *args: Any) -> Any:
        yield deed(self, *args)

    return hook


#: Ways to return something that nothing awaits or runs.
UNAWAITED: dict[str, Callable[[Hook], Any]] = {
    "returns a coroutine": as_plain_def,
    "decorated without care": as_badly_decorated,
    "object": EagerCaller,
    "awaitable": lambda deed: lambda self, *args: Later(),
    "generator": as_generator,
    "asynchronous generator": as_async_generator,
}


def blueprint_with(**hooks: Any) -> type[ChunkedUploadBlueprint]:
    return type("Uploads", (ChunkedUploadBlueprint,), hooks)


def content_range(client: FlaskClient) -> list[TestResponse]:
    """A chunk, the completion, a look at the upload."""
    answers = [put_raw(client, b"hello")]
    if answers[0].status_code == 200:
        url = answers[0].json["url"]  # type: ignore[index]
        answers += [finish(client, url, b"hello"), client.get(url)]
    return answers


def tus(client: FlaskClient) -> list[TestResponse]:
    """The whole file in one request, and a look at the upload."""
    answers = [Tus(client).post(b"hello", Upload_Length="5")]
    if "Location" in answers[0].headers:
        answers.append(client.head(answers[0].headers["Location"], headers=TUS))
    return answers


def kinds(names: dict[str, Any]) -> pytest.MarkDecorator:
    """Every kind in one dialect, the first one in both."""
    pairs = [(name, content_range) for name in names]
    return pytest.mark.parametrize(
        ("kind", "send_file"), [*pairs, (next(iter(names)), tus)]
    )


#: Values of JSON that differ from one upload to the next.
OWN = ("id", "url", "created_at", "completed_at")


def outcome(app: Flask, send_file: Callable[[FlaskClient], list[TestResponse]]) -> Any:
    """What client and database have afterwards, without what always differs."""
    answers = [
        (
            answer.status_code,
            {k: v for k, v in answer.json.items() if k not in OWN}
            if answer.is_json and isinstance(answer.json, dict)
            else answer.text,
        )
        for answer in send_file(app.test_client())
    ]
    here = [(row.status, row.user, row.delivered_at is None) for row in rows(app)]
    return answers, here


def test_every_hook_is_in_the_table() -> None:
    assert tuple(DEEDS) == HOOKS


@kinds(AWAITED)
@pytest.mark.parametrize("hook", DEEDS)
def test_a_coroutine_hook_decides_as_a_plain_one(
    app_factory: AppFactory, tmp_path: Any, hook: str, kind: str, send_file: Any
) -> None:
    if kind == "static" and hook == "get_query":
        pytest.skip("it needs the blueprint")
    outcomes = []
    deed = DEEDS[hook]
    for number, written in enumerate((None, deed, AWAITED[kind](deed))):
        app = app_factory(
            blueprint_class=blueprint_with(**({hook: written} if written else {})),
            SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/{number}.db",
        )
        outcomes.append(outcome(app, send_file))
    default, plain, coroutine = outcomes
    assert coroutine == plain
    assert plain != default


@kinds(UNAWAITED)
@pytest.mark.parametrize("hook", DEEDS)
def test_what_nothing_awaits_is_an_error_and_never_a_yes(
    app_factory: AppFactory,
    caplog: pytest.LogCaptureFixture,
    hook: str,
    kind: str,
    send_file: Any,
) -> None:
    if (hook, kind) == ("on_completion", "generator"):
        pytest.skip("a view may return one, too")
    written = UNAWAITED[kind](DEEDS[hook])
    app = app_factory(
        blueprint_class=blueprint_with(**{hook: written}), PROPAGATE_EXCEPTIONS=False
    )
    answers, here = outcome(app, send_file)
    statuses = [status for status, _ in answers]
    if hook == "deliver":
        assert 500 not in statuses
        assert [pending for _, _, pending in here] == [True]
    elif hook == "on_completion":
        assert 500 in statuses
        assert [status.value for status, _, _ in here] == ["complete"]
    elif (hook, send_file) == ("get_query", tus):
        # The one request that sends the file does not look for it.
        assert statuses == [201, 500]
    else:
        assert 500 in statuses
        assert not [status for status, _, _ in here if status.value != "uploading"]
    errors = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert any(f"{hook}() of blueprint 'uploads'" in str(e.exc_info) for e in errors)
    assert "awaits" not in str(answers)


# -- nothing gets in -------------------------------------------------------------------

Prepared = dict[str, str]
Act = Callable[[FlaskClient, Prepared], TestResponse]


def prepare(client: FlaskClient) -> Prepared:
    """URLs of uploads in every state."""
    done = begin(client, b"done", 4)
    assert finish(client, done, b"done").status_code == 200
    sender = Tus(client)
    return {
        "open": begin(client, b"abc", 6),
        "full": begin(client, b"full", 4),
        "done": done,
        "tus": sender.create(6),
        "partial": sender.partial(b"part"),
    }


#: Every request of every dialect that asks ``authorize``.
REQUESTS: dict[str, Act] = {
    "list": lambda c, u: c.get(BASE),
    "put": lambda c, u: put_raw(c, b"new"),
    "form": lambda c, u: put_form(c, b"new"),
    "whole": lambda c, u: post_whole(c, b"new"),
    "append": lambda c, u: put_raw(c, b"def", start=3, total=6, url=u["open"]),
    "append form": lambda c, u: put_form(c, b"def", start=3, total=6, url=u["open"]),
    "append named": lambda c, u: c.post(
        BASE,
        data={"file": (io.BytesIO(b"def"), "a"), "upload_id": u["open"][-36:]},
        headers={"Content-Range": "bytes 3-5/6"},
    ),
    "complete": lambda c, u: finish(c, u["full"], b"full"),
    "complete named": lambda c, u: c.post(
        BASE, data={"upload_id": u["full"][-36:], "md5": md5(b"full")}
    ),
    "show": lambda c, u: c.get(u["open"]),
    "head": lambda c, u: c.head(u["open"]),
    "download": lambda c, u: c.get(u["done"] + "/file", buffered=True),
    "terminate": lambda c, u: c.delete(u["open"]),
    "delete": lambda c, u: c.delete(u["done"]),
    "tus create": lambda c, u: Tus(c).post(Upload_Length="5"),
    "tus create with bytes": lambda c, u: Tus(c).post(b"new", Upload_Length="3"),
    "tus final": lambda c, u: Tus(c).post(Upload_Concat="final;" + u["partial"]),
    "tus append": lambda c, u: c.patch(
        u["tus"], data=b"abcdef", headers={**BYTES, "Upload-Offset": "0"}
    ),
    "tus head": lambda c, u: c.head(u["tus"], headers=TUS),
    "tus terminate": lambda c, u: c.delete(u["tus"], headers=TUS),
    "tus override": lambda c, u: c.post(
        u["tus"], headers={**TUS, "X-HTTP-Method-Override": "DELETE"}
    ),
}

#: What ``authorize`` may return by mistake, all of it true.
MISTAKES: dict[str, Callable[[], object]] = {
    "coroutine": lambda: as_coroutine_function(returns(False))(None),
    "generator": lambda: (one for one in "ab"),
    "method": lambda: "".upper,
    "answer": lambda: ({"error": "forbidden"}, 403),
    "object": object,
    "list": lambda: ["admin"],
    "class": lambda: Later,
}


@pytest.mark.parametrize(
    ("name", "mistake"),
    [(name, "coroutine") for name in REQUESTS]
    + [(name, mistake) for name in ("put", "tus append") for mistake in MISTAKES],
)
def test_authorize_allows_on_plain_values_only(
    app_factory: AppFactory, name: str, mistake: str
) -> None:
    app = app_factory(PROPAGATE_EXCEPTIONS=False, CHUNKED_UPLOAD_DOWNLOADS=True)
    client = app.test_client()
    prepared = prepare(client)
    before = rows(app)
    policy: Any = registered(app).policy
    policy.authorize = lambda action, upload: MISTAKES[mistake]()
    answer = REQUESTS[name](client, prepared)
    assert answer.status_code == 500
    assert rows(app) == before
    if name.startswith("tus"):
        assert answer.headers["Tus-Resumable"] == "1.0.0"


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, True) for name in REQUESTS] + [("put", value) for value in (1, "yes", 0.5)],
)
def test_authorize_may_return_any_true_plain_value(
    app_factory: AppFactory, name: str, value: object
) -> None:
    app = app_factory(CHUNKED_UPLOAD_DOWNLOADS=True)
    client = app.test_client()
    prepared = prepare(client)
    policy: Any = registered(app).policy
    policy.authorize = lambda action, upload: value
    assert REQUESTS[name](client, prepared).status_code < 300


@pytest.mark.parametrize("value", [False, None, 0, ""])
def test_authorize_refuses_on_false_values(
    app_factory: AppFactory, value: object
) -> None:
    policy = blueprint_with(authorize=returns(value))
    answer = put_raw(app_factory(blueprint_class=policy).test_client(), b"abc")
    assert answer.status_code == 403


def test_a_developer_sees_the_error_in_tests(app_factory: AppFactory) -> None:
    policy = blueprint_with(validate=as_plain_def(refuse))
    app = app_factory(blueprint_class=policy)
    with pytest.raises(RuntimeError, match=r"validate\(\) .* coroutine, .*'async def'"):
        put_raw(app.test_client(), b"abc")


# -- what a coroutine hook has ---------------------------------------------------------


def test_a_coroutine_hook_has_request_session_and_file(
    app_factory: AppFactory,
) -> None:
    db = SQLAlchemy()
    seen: list[object] = []

    class Uploads(ChunkedUploadBlueprint):
        async def authorize(  # type: ignore[override]
            self, action: str, upload: Any
        ) -> bool:
            g.asked = [*g.get("asked", ()), action]
            return bool(request.headers.get("Content-Range") or action == "complete")

        async def verify(self, upload: Any) -> None:
            await asyncio.sleep(0)
            with self.open(upload) as file:
                seen.append((g.asked, upload in db.session, file.read()))

    app = app_factory(db=db, blueprint_class=Uploads)
    assert send(app.test_client(), b"abc").status_code == 200
    assert seen == [(["complete"], True, b"abc")]


def test_abort_in_a_coroutine_hook_is_a_refusal(app_factory: AppFactory) -> None:
    async def hook(self: Any, *args: Any) -> None:
        abort(409, "taken")

    app = app_factory(blueprint_class=blueprint_with(validate=hook))
    answer = put_raw(app.test_client(), b"abc")
    assert (answer.status_code, answer.json["detail"]) == (409, "taken")  # type: ignore[index]


def test_a_hook_that_is_set_later_is_awaited_too(app_factory: AppFactory) -> None:
    app = app_factory()
    policy: Any = registered(app).policy
    client = app.test_client()
    assert put_raw(client, b"abc").status_code == 200

    async def authorize(action: str, upload: Any) -> bool:
        return False

    policy.authorize = authorize
    assert put_raw(client, b"abc").status_code == 403
    policy.authorize = lambda action, upload: True
    assert put_raw(client, b"abc").status_code == 200


# -- receivers -------------------------------------------------------------------------


@contextmanager
def receiving(app: Flask, receiver: Callable[..., Any]) -> Iterator[None]:
    for signal in (chunk_received, upload_completed):
        signal.connect(receiver, sender=app)
    try:
        yield
    finally:
        for signal in (chunk_received, upload_completed):
            signal.disconnect(receiver, sender=app)


def test_a_coroutine_receiver_is_awaited(app: Flask, client: FlaskClient) -> None:
    heard: list[int] = []

    async def receiver(sender: Flask, upload: Any) -> None:
        await asyncio.sleep(0)
        assert sender is app
        heard.append(upload.offset)

    with receiving(app, receiver):
        assert send(client, b"abc").status_code == 200
    assert heard == [3, 3]


async def _raises(sender: Flask, upload: Any) -> None:
    raise ZeroDivisionError


def _returns_coroutine(sender: Flask, upload: Any) -> Any:
    return _raises(sender, upload)


def _aborts(sender: Flask, upload: Any) -> None:
    abort(403)


@pytest.mark.parametrize("receiver", [_raises, _returns_coroutine, _aborts])
def test_the_failure_of_a_receiver_is_logged_only(
    app: Flask,
    client: FlaskClient,
    caplog: pytest.LogCaptureFixture,
    receiver: Callable[..., Any],
) -> None:
    with receiving(app, receiver):
        assert send(client, b"abc").status_code == 200
    messages = [one.getMessage() for one in caplog.records]
    assert messages == [
        "receiver of chunk-received failed",
        "receiver of upload-completed failed",
    ]


# -- where they cannot run -------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS)
def test_without_asgiref_a_coroutine_hook_is_refused_at_registration(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    for name in ("asgiref", "asgiref.sync"):
        monkeypatch.setitem(sys.modules, name, None)
    app = new_app(SQLAlchemy())
    policy = blueprint_with(**{hook: as_coroutine_function(refuse)})
    with pytest.raises(ConfigurationError, match=rf"{hook}\(\) .*flask\[async\]"):
        app.register_blueprint(policy("uploads", __name__), url_prefix="/uploads")


def test_an_application_with_a_loop_of_its_own_needs_no_asgiref(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setitem(sys.modules, "asgiref.sync", None)

    class Own(Flask):
        def async_to_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **named: asyncio.run(func(*args, **named))

    app = Own("own")
    policy = blueprint_with(authorize=as_coroutine_function(returns(False)))
    calls = hook_calls.HookCalls(app, policy("uploads", __name__), "uploads")
    assert calls.authorize("create", None) is False


GREEN = """
from gevent import monkey
monkey.{patch}
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_chunked import ChunkedUploadBlueprint, ConfigurationError

class Uploads(ChunkedUploadBlueprint):
    {hook}

app = Flask("green")
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
SQLAlchemy(app)
try:
    app.register_blueprint(Uploads("uploads", __name__), url_prefix="/uploads")
except ConfigurationError as error:
    print(error)
else:
    print("registered")
"""
ASYNC = "async def validate(self, upload): pass"


@pytest.mark.parametrize(
    ("hook", "patch", "told"),
    [
        (ASYNC, "patch_all()", "validate() of blueprint 'uploads' is a coroutine"),
        (ASYNC, "patch_all(thread=False)", "registered"),
        ("def validate(self, upload): pass", "patch_all()", "registered"),
    ],
    ids=["patched", "threads left", "plain"],
)
def test_a_coroutine_hook_is_refused_where_gevent_has_patched_threading(
    hook: str, patch: str, told: str
) -> None:
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", GREEN.format(patch=patch, hook=hook)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(told), done.stderr
    assert ("gevent" in done.stdout) is (told != "registered")


def test_threading_that_is_patched_after_registration_is_noticed(
    app_factory: AppFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """gunicorn with ``--preload`` patches in its workers."""
    policy = blueprint_with(authorize=as_coroutine_function(returns(True)))
    app = app_factory(blueprint_class=policy, PROPAGATE_EXCEPTIONS=False)
    client = app.test_client()
    assert put_raw(client, b"abc").status_code == 200
    monkeypatch.setattr(hook_calls, "_patches_threading", lambda: "gevent")
    assert put_raw(client, b"abc").status_code == 500
    assert "gevent has patched threading" in caplog.text
    assert len(rows(app)) == 1


def test_libraries_that_patch_threading_are_recognized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Monkey:
        def is_module_patched(self, name: str) -> bool:
            return name == "threading"

        def is_monkey_patched(self, name: str) -> bool:
            return name == "thread"

    for name in ("gevent.monkey", "eventlet.patcher"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert hook_calls._patches_threading() is None
    monkeypatch.setitem(sys.modules, "eventlet.patcher", Monkey())
    assert hook_calls._patches_threading() == "eventlet"
    monkeypatch.setitem(sys.modules, "gevent.monkey", Monkey())
    assert hook_calls._patches_threading() == "gevent"
