"""The application, or a middleware, looks at bodies of uploads on real servers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.looks import EXCHANGES, MOMENTS, TAKING, WAYS, Answer, check
from tests.servers.gunicorn import Server
from tests.servers.others import serve_kind

pytestmark = pytest.mark.slow

KINDS = (
    "gunicorn-gthread",
    "gunicorn-sync",
    "gunicorn-gevent",
    "werkzeug",
    "waitress",
    "cheroot",
)
#: Seconds after which a request hangs.
HANGS = 20


class OverTheWire:
    """Sends requests over a connection that is kept where the server keeps it."""

    def __init__(self, server: Server) -> None:
        self._session = requests.Session()
        self._origin = server.origin

    def __call__(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> Answer:
        chunked = headers.pop("Transfer-Encoding", "") == "chunked"
        pieces = (body[at : at + 1000] for at in range(0, len(body), 1000))
        got = self._session.request(
            method,
            self._origin + path,
            data=pieces if chunked else body,
            headers=headers,
            timeout=HANGS,
        )
        if got.status_code == 500:
            # The rest of a body that was begun may still be on the connection.
            self._session.close()
        return Answer(got.status_code, got.headers, got.content)


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    name, _, how = str(request.param).partition("-")
    module = "gevent" if how == "gevent" else name
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    tmp: Path = tmp_path_factory.mktemp("server")
    with serve_kind(request.param, tmp, "tests.looks:create_app()") as running:
        assert isinstance(running, Server)
        # The port is open before a worker is ready.
        requests.get(running.url, timeout=120)
        yield running


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", EXCHANGES)
def test_a_look_changes_no_byte(server: Server, name: str, moment: str) -> None:
    send = OverTheWire(server)
    for way in WAYS:
        answer = check(send, name, way, moment)
        if moment == "before":
            assert (answer.status == 500) == (way in TAKING), way
        elif moment in ("verify", "on_completion", "after"):
            assert answer.status != 500, way


#: Middlewares, by name -> every upload is right although they look.
MIDDLEWARES = {"tee": True, "reread": True, "peek": False}


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "werkzeug"])
def wrapped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose middleware does as the header ``X-Middleware`` of a request says.

    The development server cannot say how much of a body was read, so a middleware that
    reads some of it there is not noticed.
    """
    name, _, how = str(request.param).partition("-")
    module = "gevent" if how == "gevent" else name
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    tmp: Path = tmp_path_factory.mktemp("server")
    app = "tests.servers.middlewares:create_app()"
    with serve_kind(request.param, tmp, app) as running:
        assert isinstance(running, Server)
        # The port is open before a worker is ready.
        requests.get(running.url, timeout=120)
        yield running


@pytest.mark.parametrize("kind", MIDDLEWARES)
@pytest.mark.parametrize("name", EXCHANGES)
def test_a_middleware_that_reads_changes_no_byte(
    wrapped: Server, name: str, kind: str
) -> None:
    wire = OverTheWire(wrapped)

    def send(method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        looked_at = "X-Look" in headers
        more = {"X-Middleware": kind} if looked_at else {}
        answer = wire(method, path, body, {**headers, **more})
        if looked_at and kind == "tee":
            assert answer.headers["X-Tee"] == str(len(body))
        return answer

    answer = check(send, name, "values", "none")
    assert (answer.status != 500) == MIDDLEWARES[kind]
