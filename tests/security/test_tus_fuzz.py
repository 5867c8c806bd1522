"""Whatever a tus client sends: a documented status, plain text, nothing spoilt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from hypothesis import given

from flask_chunked.exceptions import MalformedHeader
from flask_chunked.protocol import tus
from tests.dialects.tus import TUS, Tus, metadata
from tests.figures import figure
from tests.security.tus_requests import Request, requests
from tests.security.world import CONTENT, Words, World, made, thorough

#: Cases of the slow tier and of the fast one.
CASES = figure("FUZZ_CASES", 5_000, 500_000)
FAST_CASES = 120

REFUSALS = {400, 403, 404, 405, 409, 410, 411, 412, 413, 415, 416, 460, 503}
DOCUMENTED = {200, 201, 204} | REFUSALS
#: Bytes may have been kept: of a body that was cut, or up to the end that it had.
KEEPING = {413, 503}


class TusWorld(World):
    """Uploads in all conditions that tus knows."""

    def fillers(self) -> Sequence[Callable[[], Words]]:
        client = Tus(self.app.test_client())

        def unfinished() -> Words:
            url = client.create(10, Upload_Metadata=metadata(filename="a"))
            client.patch(url, 0, CONTENT[:5])
            return {"OPEN": id_of(url)}

        def finished() -> Words:
            url = client.create(10)
            client.patch(url, 0, CONTENT)
            return {"DONE": id_of(url)}

        def deferred() -> Words:
            answer = client.post(CONTENT[:5], Upload_Defer_Length="1")
            return {"DEFERRED": id_of(answer.headers["Location"])}

        def concatenated() -> Words:
            part, waits = client.partial(CONTENT), client.partial(CONTENT[:5], 10)
            final = client.final(part, waits).headers["Location"]
            return {"PART": id_of(part), "WAITS": id_of(waits), "FINAL": id_of(final)}

        return unfinished, finished, deferred, concatenated


def id_of(url: str) -> str:
    return url.rsplit("/", 1)[1]


@pytest.fixture(scope="module")
def world() -> Iterator[TusWorld]:
    with made(TusWorld) as here:
        yield here


# -- what must hold --------------------------------------------------------------------


def check(world: TusWorld, request: Request) -> None:
    before = world.untouched
    headers = {
        name: world.resolve(value) if name == "Upload-Concat" else value
        for name, value in request.headers.items()
    }
    status, answered, said = world.call(
        request.method,
        world.resolve(request.path),
        headers,
        "",
        request.body,
        chunked=request.chunked,
    )
    assert status in DOCUMENTED, (status, said[:200])
    after = world.snapshot()
    if status in REFUSALS:
        require_form(request, answered, said)
        assert status in KEEPING or after == before, status
        # A creation whose body was cut is there, for who can tell its id.
        assert set(before) <= set(after) if status == 503 else set(before) == set(after)
        for name, row in before.items():
            require_prefix(row, after[name])
    elif status == 201:
        require_creation(world, headers, answered)
        after = world.snapshot()
    world.repair(after)


def require_form(request: Request, answered: Mapping[str, str], said: bytes) -> None:
    """An error is plain text, of this dialect, and not to be stored or guessed at."""
    assert answered["Tus-Resumable"] == "1.0.0"
    assert answered["Content-Type"] == "text/plain; charset=utf-8"
    assert answered["Cache-Control"] == "no-store"
    assert answered["X-Content-Type-Options"] == "nosniff"
    override = request.headers.get("X-HTTP-Method-Override", "").strip().upper()
    stands_for_head = request.method == "POST" and override == "HEAD"
    if request.method != "HEAD" and not stands_for_head:
        assert said.decode().strip()
        assert b"Traceback" not in said


def require_prefix(before: tuple[object, ...], after: tuple[object, ...]) -> None:
    """What was there stays, and no offset goes back."""
    old, new = before[3], after[3]
    assert isinstance(old, bytes)
    assert isinstance(new, bytes)
    assert new.startswith(old)


def require_creation(
    world: TusWorld, headers: Mapping[str, str], answered: Mapping[str, str]
) -> None:
    """What was created is there, and tells what it was told."""
    status, told, _ = world.call("HEAD", answered["Location"], TUS, "", b"")
    assert status == 200
    raw = headers.get("Upload-Metadata", "").strip(" ")
    assert told.get("Upload-Metadata", "") == raw
    assert told.get("Upload-Concat") == headers.get("Upload-Concat")
    assert told["Tus-Resumable"] == "1.0.0"
    status, _, _ = world.call("GET", answered["Location"], {}, "", b"")
    assert status == 200


def run(world: TusWorld, cases: int) -> None:
    @thorough(cases)
    @given(requests())
    def case(request: Request) -> None:
        with world.case():
            check(world, request)

    case()
    world.require_unspoilt()


def test_no_tus_request_breaks_the_server(world: TusWorld) -> None:
    run(world, FAST_CASES)


@pytest.mark.slow
def test_no_tus_request_breaks_the_server_in_many_cases(world: TusWorld) -> None:
    run(world, CASES)


# -- the time that metadata takes ------------------------------------------------------

SIZE = 16 * 2**10
#: Seconds of this process for one header.
LIMIT = 0.010

HOSTILE = {
    "commas": "," * SIZE,
    "blanks": " " * SIZE,
    "blanks-and-a-comma": " " * (SIZE // 2) + "," + " " * (SIZE // 2),
    "commas-and-blanks": ", " * (SIZE // 2),
    "equals": "=" * SIZE,
    "key-and-equals": "a " + "=" * SIZE,
    "long-base64": "a " + "A" * SIZE,
    "long-base64-that-ends-wrong": "a " + "A" * (SIZE - 2) + "!",
    "long-base64-padded-everywhere": "a " + "AA==" * (SIZE // 4),
    "long-key": "a" * SIZE,
    "many-keys": ",".join(f"k{n}" for n in range(SIZE // 6)),
    "many-values": ",".join(f"k{n} AAAA" for n in range(SIZE // 11)),
    "one-key-many-times": ",".join(["a"] * (SIZE // 2)),
    "many-colliding-keys": ",".join(
        chr(33 + n % 11) * (n % 60 + 1) for n in range(530)
    ),
    "latin-1": "a " + "\xe4" * SIZE,
    "nul": "\x00" * SIZE,
    "tabs": "\t" * SIZE,
}


def seconds(header: str) -> float:
    """The best of several, of this process alone."""
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        with contextlib.suppress(MalformedHeader):
            tus.Metadata.from_header(header)
        best = min(best, time.process_time() - began)
    return best


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("limited", [True, False], ids=["limited", "unlimited"])
def test_hostile_metadata_is_judged_in_no_time(
    header: str, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it comes, and as if neither length nor number of keys were limited."""
    if not limited:
        monkeypatch.setattr(tus, "MAX_METADATA_BYTES", 10 * SIZE)
        monkeypatch.setattr(tus, "MAX_METADATA_KEYS", SIZE)
    assert seconds(header) < LIMIT
