"""Clients that README and examples show stop, wait or give up, and never spin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from examples.resume_with_requests import GaveUp, Pauses, Refused, upload
from tests.documents import README, ROOT, code, section
from tests.stub_server import Answer, StoppedClock, StubServer, answering

# -- the README's loop -----------------------------------------------------------------


@cache
def block() -> str:
    """The README's ``send``."""
    (found,) = (
        block
        for block in code(section(README, "Resume after a disconnect"))
        if "def send" in block
    )
    return found


def sending_loop(clock: StoppedClock) -> Callable[..., None]:
    """The README's ``send``, with this clock."""
    names: dict[str, Any] = {"requests": requests, "time": clock}
    # This module's future statement is not the block's.
    exec(compile(block(), "README.rst", "exec", dont_inherit=True), names)
    send: Callable[..., None] = names["send"]
    return send


@pytest.fixture
def ten_bytes(tmp_path: Path) -> Path:
    """A file for servers that take nothing."""
    path = tmp_path / "ten.bin"
    path.write_bytes(b"0123456789")
    return path


HERE_ARE_NONE = Answer(200, {"Upload-Offset": "0"})
HERE_ARE_ALL = Answer(200, {"Upload-Offset": "10"})
OTHER_OFFSET = Answer(400, body=b'{"detail": "", "expected_offset": 5}')


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 415, 507])
@pytest.mark.parametrize("method", ["HEAD", "PUT"])
def test_sending_loop_stops_at_what_no_other_try_mends(
    ten_bytes: Path, method: str, status: int
) -> None:
    clock = StoppedClock()
    refusal = {method: Answer(status, body=b"no")}
    with answering(**{"HEAD": HERE_ARE_NONE, **refusal}) as server:
        with pytest.raises(requests.HTTPError, match=str(status)):
            sending_loop(clock)(ten_bytes, server.url, 10)
        assert server.counts[method] == 1
    assert clock.pauses == []


@pytest.mark.parametrize(
    ("told", "wait"),
    [
        pytest.param(Answer(503, {"Retry-After": "90"}), 90, id="as asked for"),
        pytest.param(Answer(503, {"Retry-After": "0"}), 1, id="never less"),
        pytest.param(Answer(429, {"Retry-After": "tomorrow"}), 1, id="no number"),
        pytest.param(Answer(500), 1, id="500"),
        pytest.param(Answer(502, body=b"<h1>Bad Gateway</h1>"), 1, id="a page"),
        pytest.param(Answer(409), 1, id="409"),
        pytest.param(Answer(423), 1, id="423"),
    ],
)
@pytest.mark.parametrize("method", ["HEAD", "PUT"])
def test_sending_loop_waits_after_what_another_try_may_mend(
    ten_bytes: Path, method: str, told: Answer, wait: int
) -> None:
    clock = StoppedClock()
    answers = {
        "HEAD": [told, HERE_ARE_NONE, HERE_ARE_ALL],
        "PUT": [Answer(200)],
    }
    if method == "PUT":
        answers = {"HEAD": [HERE_ARE_NONE, HERE_ARE_ALL], "PUT": [told]}
    with answering(**answers) as server:
        sending_loop(clock)(ten_bytes, server.url, 10)
        assert server.counts["PUT"] == 1
    assert clock.pauses == [wait]


def test_sending_loop_asks_again_where_the_offset_is_another(ten_bytes: Path) -> None:
    clock = StoppedClock()
    with answering(HEAD=[HERE_ARE_NONE, HERE_ARE_ALL], PUT=OTHER_OFFSET) as server:
        sending_loop(clock)(ten_bytes, server.url, 10)
    assert clock.pauses == [1]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({"HEAD": HERE_ARE_NONE, "PUT": Answer(503)}, id="503"),
        pytest.param({"HEAD": HERE_ARE_NONE, "PUT": Answer(200)}, id="nothing stored"),
        pytest.param({"HEAD": Answer(200)}, id="no server of uploads"),
        pytest.param({"HEAD": Answer(503, {"Retry-After": "2"})}, id="away"),
        pytest.param(None, id="no server at all"),
    ],
)
def test_sending_loop_gives_up_after_an_hour_without_progress(
    ten_bytes: Path, answers: dict[str, Answer] | None
) -> None:
    clock = StoppedClock()
    with answering(**(answers or {})) as server:
        if answers is None:
            server.close()
        with pytest.raises(TimeoutError, match="3600 seconds"):
            sending_loop(clock)(ten_bytes, server.url, 10)
        assert server.counts.total() <= 150
    assert clock.pauses[-1] == 60
    assert 3500 <= sum(clock.pauses) <= 3600


def test_sending_loop_never_waits_beyond_its_patience(ten_bytes: Path) -> None:
    clock = StoppedClock()
    with answering(HEAD=Answer(503, {"Retry-After": "86400"})) as server:
        with pytest.raises(TimeoutError):
            sending_loop(clock)(ten_bytes, server.url, 10)
        assert server.counts["HEAD"] == 1


# -- examples/resume_with_requests.py --------------------------------------------------


@dataclass
class Example:
    """The example's client, with a stopped clock."""

    path: Path
    clock: StoppedClock = field(default_factory=StoppedClock)

    def send(self, server: StubServer, url: str | None = None) -> dict[str, Any]:
        pauses = Pauses(sleep=self.clock.sleep, clock=self.clock.monotonic)
        return upload(server.url, self.path, url, pauses=pauses)


@pytest.fixture
def example(ten_bytes: Path) -> Example:
    return Example(ten_bytes)


def shown(offset: int, status: int = 1) -> Answer:
    """The JSON of an upload."""
    told = {"url": "STUB-URL", "offset": offset, "status": status}
    return Answer(200, body=json.dumps(told).encode())


REFUSED = Answer(403, body=b'{"detail": "Not yours"}')
FULL = Answer(507, body=b'{"detail": "No space left"}')


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        pytest.param(REFUSED, "403 Not yours", id="403"),
        pytest.param(FULL, "507 No space left", id="507"),
        pytest.param(Answer(413, body=b"<h1>Too large"), "413", id="413 of a proxy"),
        pytest.param(Answer(410), "410", id="410"),
        pytest.param(Answer(400, body=b"[]"), "400", id="400"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "HEAD", "POST"])
def test_example_stops_at_what_no_other_try_mends(
    example: Example, method: str, told: Answer, reason: str
) -> None:
    answers = {"HEAD": HERE_ARE_ALL, "PUT": shown(10), method: told}
    with answering(**answers) as server:
        # HEAD is asked where an upload goes on.
        url = server.url if method == "HEAD" else None
        with pytest.raises(Refused, match=reason if method != "HEAD" else reason[:3]):
            example.send(server, url)
        assert server.counts[method] == 1
    assert example.clock.pauses == []


@pytest.mark.parametrize(
    ("told", "wait"),
    [
        pytest.param(Answer(503, {"Retry-After": "90"}), 90, id="as asked for"),
        pytest.param(Answer(503, {"Retry-After": "0"}), 0.5, id="never less"),
        pytest.param(Answer(503, {"Retry-After": "\xb2"}), 0.5, id="no number"),
        pytest.param(Answer(429, body=b'{"detail": "Later"}'), 0.5, id="429"),
        pytest.param(Answer(502, body=b"<h1>Bad Gateway</h1>"), 0.5, id="a page"),
        pytest.param(Answer(200, body=b"<h1>Log in</h1>"), 0.5, id="a page that is OK"),
        pytest.param(OTHER_OFFSET, 0.5, id="another offset"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_example_waits_after_what_another_try_may_mend(
    example: Example, method: str, told: Answer, wait: float
) -> None:
    turns = {"HEAD": [HERE_ARE_ALL], "PUT": [shown(10)], "POST": [shown(10, 2)]}
    turns[method].insert(0, told)
    with answering(**turns) as server:
        assert example.send(server)["status"] == 2
        assert server.counts[method] == 2
    assert example.clock.pauses == [wait]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({"PUT": Answer(503)}, id="503"),
        pytest.param({"PUT": shown(0), "HEAD": HERE_ARE_NONE}, id="nothing stored"),
        pytest.param({"PUT": Answer(200, body=b"hello")}, id="no server of uploads"),
        pytest.param({"PUT": shown(10), "HEAD": HERE_ARE_ALL}, id="no completion"),
        pytest.param(None, id="no server at all"),
    ],
)
def test_example_gives_up_after_an_hour_without_progress(
    example: Example, answers: dict[str, Answer] | None
) -> None:
    with answering(**{"POST": Answer(500), **(answers or {})}) as server:
        if answers is None:
            server.close()
        with pytest.raises(GaveUp, match="no progress for 3600 seconds"):
            example.send(server)
        assert server.counts.total() <= 150
    assert example.clock.pauses[-1] == 60
    assert 3500 <= sum(example.clock.pauses) <= 3600


def test_example_never_waits_beyond_its_patience(example: Example) -> None:
    with answering(PUT=Answer(503, {"Retry-After": "86400"})) as server:
        with pytest.raises(GaveUp):
            example.send(server)
        assert server.counts["PUT"] == 1


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (REFUSED, "not uploaded: 403 Not yours"),
        (FULL, "not uploaded: 507 No space left"),
    ],
    ids=["403", "507"],
)
def test_example_says_what_went_wrong_and_exits_with_one(
    ten_bytes: Path, told: Answer, said: str
) -> None:
    script = str(ROOT / "examples/resume_with_requests.py")
    with answering(PUT=told) as server:
        ended = subprocess.run(
            [sys.executable, script, server.url, str(ten_bytes)],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said + "\n")


def test_example_says_what_it_waits_for(
    example: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    away = Answer(503, {"Retry-After": "7"}, b'{"detail": "Database is away"}')
    with answering(PUT=[away, shown(10)], POST=shown(10, 2)) as server:
        example.send(server)
    said = capsys.readouterr()
    assert said.out == f"{server.url}\n"
    assert said.err == "503 Database is away; next try in 7 seconds\n"
