"""Two hosts with a disk each, one PostgreSQL, one bucket: each takes any request."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import requests
from sqlalchemy import URL

from tests.dialects.tus import BYTES, TUS
from tests.figures import figure, run_seed
from tests.postgres import as_setting, new_database, run_sql, running_server
from tests.s3 import S3Server, left_in
from tests.servers.gunicorn import Server, serve
from tests.servers.wire import Wire

pytestmark = pytest.mark.slow

MIB = 2**20
#: Offsets that both hosts are asked to take at once.
ROUNDS = figure("HOST_DUELS", 10, 100)
#: Requests for one offset.
RIVALS = 4
CONTENT = random.Random(6).randbytes(13 * MIB + 11)
#: Sizes of chunks: below a part, beyond one, a byte.
SIZES = (1, 3 * MIB, 6 * MIB, 777, 2 * MIB, 13 * MIB)


@dataclass(frozen=True)
class Hosts:
    """Two servers that share nothing but these.

    :param options: of the storage.
    """

    both: tuple[Server, Server]
    database: URL
    s3: S3Server
    options: dict[str, object]

    def at(self, turn: int, url: str) -> str:
        """The upload's URL at the host whose turn it is."""
        path = url.partition("/uploads/")[2]
        return self.both[turn % 2].url + path

    def rows(self, columns: str) -> list[tuple[object, ...]]:
        """Of all uploads."""
        found = run_sql(self.database, f"SELECT {columns} FROM chunked_upload")
        return [tuple(row) for row in found]

    def content(self, url: str) -> list[bytes]:
        """The finished file, as each host gives it."""
        return [
            requests.get(f"{self.at(turn, url)}/file", timeout=60).content
            for turn in range(2)
        ]

    def left_on_disks(self) -> list[Path]:
        """Files of the hosts that are no logs."""
        files = (path for server in self.both for path in server.tmp.rglob("*"))
        return [path for path in files if path.is_file() and path.suffix != ".log"]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[URL]:
    with running_server() as url:
        yield url


@pytest.fixture(scope="module")
def hosts(
    postgresql: URL, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    database = new_database(postgresql)
    options = s3_server.options()
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(
                serve(
                    tmp_path_factory.mktemp(f"host{number}"),
                    SQLALCHEMY_DATABASE_URI=as_setting(database),
                    CHUNKED_UPLOAD_DOWNLOADS=True,
                    storage_class="flask_chunked.storage.s3:S3Storage",
                    storage_options=options,
                )
            )
            for number in range(2)
        )
        yield Hosts((one, two), database, s3_server, options)


@pytest.fixture(autouse=True)
def all_is_settled(hosts: Hosts, tmp_path: Path) -> Iterator[None]:
    """Each test leaves its finished files in the bucket, and nothing else anywhere."""
    yield
    assert hosts.left_on_disks() == []
    with hosts.s3.storage(tmp_path, prefix=hosts.options["prefix"]) as storage:
        objects, pending = left_in(storage)
    kept = sorted(str(key) for key, status in hosts.rows("storage_key, status"))
    assert (objects, pending) == (kept, [])
    assert run_sql(hosts.database, "SELECT number FROM chunked_upload_part") == []
    assert {status for (status,) in hosts.rows("status")} <= {"complete"}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def put(url: str, data: bytes, start: int, total: int) -> requests.Response:
    """A chunk as a raw body."""
    told = f"bytes {start}-{start + len(data) - 1}/{total}"
    return requests.put(url, data=data, headers={"Content-Range": told}, timeout=60)


def patch(url: str, data: bytes, start: int) -> requests.Response:
    """A chunk over tus."""
    headers = {**BYTES, "Upload-Offset": str(start)}
    return requests.patch(url, data=data, headers=headers, timeout=60)


def complete(url: str, data: bytes) -> requests.Response:
    """POST of the checksum."""
    return requests.post(url, data={"md5": md5(data)}, timeout=60)


def chunks() -> Iterator[tuple[int, int, bytes]]:
    """Turn, offset and bytes."""
    start = 0
    for turn, size in enumerate(SIZES):
        chunk = CONTENT[start : start + size]
        yield turn, start, chunk
        start += len(chunk)


# -- in turn ---------------------------------------------------------------------------


@pytest.mark.parametrize("last", [0, 1], ids=["completed-by-one", "completed-by-two"])
def test_chunks_that_two_hosts_take_in_turn_become_the_file(
    hosts: Hosts, last: int
) -> None:
    url = hosts.both[0].url
    for turn, start, chunk in chunks():
        answer = put(hosts.at(turn, url), chunk, start, len(CONTENT))
        assert answer.status_code == 200, answer.text
        url = answer.json()["url"]
        # The other host knows at once.
        told = requests.get(hosts.at(turn + 1, url), timeout=60).json()
        assert told["offset"] == start + len(chunk)
    for turn in (last, last + 1):
        assert complete(hosts.at(turn, url), CONTENT).json()["status"] == 2
    assert hosts.content(url) == [CONTENT, CONTENT]


def test_patches_that_two_hosts_take_in_turn_become_the_file(hosts: Hosts) -> None:
    headers = {**TUS, "Upload-Length": str(len(CONTENT))}
    begun = requests.post(hosts.both[1].url, headers=headers, timeout=60)
    url = begun.headers["Location"]
    for turn, start, chunk in chunks():
        answer = patch(hosts.at(turn, url), chunk, start)
        assert answer.status_code == 204, answer.text
        told = requests.head(hosts.at(turn + 1, url), headers=TUS, timeout=60)
        assert told.headers["Upload-Offset"] == str(start + len(chunk))
    # The last PATCH has completed it; the other host says so, too.
    assert requests.get(hosts.at(0, url), timeout=60).json()["status"] == 2
    assert hosts.content(url) == [CONTENT, CONTENT]


def test_each_host_begins_and_the_other_finishes(hosts: Hosts) -> None:
    half = len(CONTENT) // 2
    for turn in range(2):
        begun = put(hosts.both[turn].url, CONTENT[:half], 0, len(CONTENT))
        other = hosts.at(turn + 1, begun.json()["url"])
        assert put(other, CONTENT[half:], half, len(CONTENT)).status_code == 200
        assert complete(other, CONTENT).status_code == 200
        assert hosts.content(other) == [CONTENT, CONTENT]


def test_one_host_gives_up_what_the_other_began(hosts: Hosts) -> None:
    begun = put(hosts.both[0].url, CONTENT[: 6 * MIB], 0, len(CONTENT))
    other = hosts.at(1, begun.json()["url"])
    assert requests.delete(other, timeout=60).status_code == 204
    assert requests.get(hosts.at(0, other), timeout=60).status_code == 404


# -- take-over -------------------------------------------------------------------------


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("arrived", [MIB, 8 * MIB], ids=["tail", "part-and-tail"])
def test_head_at_one_host_supersedes_a_writer_of_the_other(
    hosts: Hosts, arrived: int
) -> None:
    """The client's connection to one host hangs; it goes on at the other."""
    total = len(CONTENT)
    url = put(hosts.both[0].url, CONTENT[:1], 0, total).json()["url"]
    path = "/uploads/" + url.rpartition("/")[2]
    with Wire(hosts.both[0].port) as stuck:
        stuck.head(
            *("PUT", path),
            Content_Range=f"bytes 1-{total - 1}/{total}",
            Content_Length=total - 1,
        )
        stuck.send(CONTENT[1:arrived])
        # What came is committed when the socket falls silent.
        wait_until(lambda: hosts.rows(f'"offset" = {arrived}').count((True,)) == 1)
        other = hosts.at(1, url)
        told = requests.head(other, timeout=60).headers["Upload-Offset"]
        assert told == str(arrived)
        chunk = CONTENT[arrived : arrived + 1000]
        assert put(other, chunk, arrived, total).status_code == 200
        # Bytes that the client never meant to be there.
        stuck.send(bytes(2000))
        status, said = stuck.answer()
        assert (status, said["expected_offset"]) == (400, arrived + 1000)
    start = arrived + 1000
    assert put(hosts.at(0, url), CONTENT[start:], start, total).status_code == 200
    assert complete(other, CONTENT).status_code == 200
    assert hosts.content(url) == [CONTENT, CONTENT]


# -- duels -----------------------------------------------------------------------------


def at_once(acts: Sequence[Callable[[], requests.Response]]) -> list[requests.Response]:
    """From one starting line, each in a thread."""
    line = threading.Barrier(len(acts))
    answers: list[requests.Response | None] = [None] * len(acts)

    def run(number: int) -> None:
        line.wait(30)
        answers[number] = acts[number]()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return [answer for answer in answers if answer is not None]


@pytest.mark.parametrize("dialect", ["content-range", "tus"])
def test_duel_between_hosts_has_one_winner_for_each_offset(
    hosts: Hosts, dialect: str
) -> None:
    chance = random.Random(run_seed())
    size = 300_000
    total = size * (ROUNDS + 1)
    content = bytes(size)
    url = put(hosts.both[0].url, content, 0, total).json()["url"]
    winners: Counter[int] = Counter()
    for turn in range(ROUNDS):
        start = size * (turn + 1)
        bodies = [chance.randbytes(size) for _ in range(RIVALS)]

        def send(
            number: int, start: int = start, bodies: list[bytes] = bodies
        ) -> requests.Response:
            at = hosts.at(number, url)
            if dialect == "tus":
                return patch(at, bodies[number], start)
            return put(at, bodies[number], start, total)

        acts = [partial(send, number) for number in range(RIVALS)]
        answers = at_once(acts)
        statuses = [answer.status_code for answer in answers]
        won = [n for n, status in enumerate(statuses) if status in (200, 204)]
        assert len(won) == 1, statuses
        assert set(statuses) - {200, 204} <= {400, 409}, statuses
        winners[won[0] % 2] += 1
        content += bodies[won[0]]
    print(f"won by each host: {winners[0]}, {winners[1]}")
    assert complete(hosts.at(1, url), content).status_code == 200
    assert hosts.content(url) == [content, content]


def test_completions_at_both_hosts_at_once_are_one(hosts: Hosts) -> None:
    url = put(hosts.both[0].url, CONTENT, 0, len(CONTENT)).json()["url"]
    answers = at_once(
        [partial(complete, hosts.at(turn, url), CONTENT) for turn in range(RIVALS)]
    )
    assert [answer.status_code for answer in answers] == [200] * RIVALS
    assert len({answer.json()["completed_at"] for answer in answers}) == 1
    upload_id = url.rpartition("/")[2]
    events = run_sql(
        hosts.database,
        "SELECT event_id, delivered_at IS NOT NULL FROM chunked_upload "
        f"WHERE id = '{upload_id}'",
    )
    assert len(events) == 1 and events[0][0] is not None
    assert hosts.content(url) == [CONTENT, CONTENT]
