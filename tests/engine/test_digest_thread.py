"""Digests beside: their order, what they may still be looking at, and no threads."""

from __future__ import annotations

import _thread
import hashlib
import threading
from collections.abc import Iterator

import pytest

from flask_chunked.engine.digest_thread import WORTH, DigestThread

LONG = bytes(range(256)) * (WORTH // 256)


class Slow:
    """Takes a block when it is told to.

    :ivar blocks: what it has taken, as it was then.
    """

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.blocks: list[bytes] = []
        self.threads: list[int] = []
        self.failure: Exception | None = None

    def update(self, data: memoryview) -> None:
        assert self.go.acquire(timeout=10)
        if self.failure is not None:
            raise self.failure
        self.blocks.append(bytes(data))
        self.threads.append(threading.get_ident())


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def beside(slow: Slow) -> Iterator[DigestThread]:
    beside = DigestThread([slow])
    yield beside
    for _ in range(10):
        slow.go.release()
    beside.close()


def test_a_long_block_is_taken_while_its_giver_goes_on(
    slow: Slow, beside: DigestThread
) -> None:
    beside.update(memoryview(LONG))
    beside.wait_for_buffer()
    assert slow.blocks == []
    slow.go.release()
    beside.join()
    assert slow.blocks == [LONG]
    assert slow.threads != [threading.get_ident()]


def test_of_two_buffers_the_older_is_free_when_there_is_room(
    slow: Slow, beside: DigestThread
) -> None:
    first, second = bytearray(LONG), bytearray(LONG[::-1])
    beside.update(memoryview(first))
    beside.update(memoryview(second))
    slow.go.release()
    beside.wait_for_buffer()
    first[:] = bytes(len(first))
    slow.go.release()
    beside.join()
    assert slow.blocks == [LONG, LONG[::-1]]


def test_short_blocks_keep_their_place_behind_long_ones(
    slow: Slow, beside: DigestThread
) -> None:
    beside.update(memoryview(LONG))
    beside.update(memoryview(b"short"))
    for _ in range(3):
        slow.go.release()
    beside.join()
    beside.update(memoryview(b"alone"))
    assert slow.blocks == [LONG, b"short", b"alone"]
    assert slow.threads[-1] == threading.get_ident()


def test_all_digests_take_all_blocks() -> None:
    digests = [hashlib.md5(), hashlib.sha256()]
    beside = DigestThread(digests)
    content = b"".join([LONG, b"x" * 1000, LONG, LONG])
    for piece in (LONG, b"x" * 1000, LONG, LONG):
        beside.wait_for_buffer()
        beside.update(memoryview(piece))
    beside.join()
    assert [digest.hexdigest() for digest in digests] == [
        hashlib.md5(content).hexdigest(),
        hashlib.sha256(content).hexdigest(),
    ]
    beside.close()
    beside.close()


def test_without_digests_there_is_no_thread() -> None:
    before = threading.active_count()
    beside = DigestThread([])
    beside.update(memoryview(LONG))
    beside.join()
    assert threading.active_count() == before
    beside.close()


def test_the_thread_ends(slow: Slow, beside: DigestThread) -> None:
    beside.update(memoryview(LONG))
    (thread,) = (
        one for one in threading.enumerate() if one.name == "flask-chunked-digest"
    )
    beside.close()
    slow.go.release()
    thread.join(10)
    assert not thread.is_alive()


def test_a_digest_that_fails_is_told(slow: Slow, beside: DigestThread) -> None:
    slow.failure = ValueError("no digest")
    beside.update(memoryview(LONG))
    slow.go.release()
    with pytest.raises(ValueError, match="no digest"):
        beside.join()


@pytest.mark.parametrize("why", ["no more threads", "threads of gevent"])
def test_where_no_thread_helps_the_giver_does_it(
    slow: Slow, beside: DigestThread, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def refuse(*arguments: object, **named: object) -> int:
        raise RuntimeError("can't start new thread")

    if why == "no more threads":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    else:
        # What monkey patching leaves there is no function of the module itself.
        monkeypatch.setattr(_thread, "start_new_thread", refuse)
    slow.go.release()
    beside.update(memoryview(LONG))
    assert slow.threads == [threading.get_ident()]
