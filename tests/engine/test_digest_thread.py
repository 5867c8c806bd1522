"""The digest thread: order, buffers in use, errors, and platforms without it."""

from __future__ import annotations

import _thread
import hashlib
import threading
from collections.abc import Iterator

import pytest

from flask_chunked.engine.digest_thread import WORTH, DigestThread

LONG = bytes(range(256)) * (WORTH // 256)


class Slow:
    """Takes a block when the test allows it.

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
def digest_thread(slow: Slow) -> Iterator[DigestThread]:
    digest_thread = DigestThread([slow])
    yield digest_thread
    for _ in range(10):
        slow.go.release()
    digest_thread.close()


def test_a_long_block_is_hashed_while_the_caller_continues(
    slow: Slow, digest_thread: DigestThread
) -> None:
    digest_thread.update(memoryview(LONG))
    digest_thread.wait_for_buffer()
    assert slow.blocks == []
    slow.go.release()
    digest_thread.join()
    assert slow.blocks == [LONG]
    assert slow.threads != [threading.get_ident()]


def test_the_older_of_two_buffers_is_free_after_the_wait(
    slow: Slow, digest_thread: DigestThread
) -> None:
    first, second = bytearray(LONG), bytearray(LONG[::-1])
    digest_thread.update(memoryview(first))
    digest_thread.update(memoryview(second))
    slow.go.release()
    digest_thread.wait_for_buffer()
    first[:] = bytes(len(first))
    slow.go.release()
    digest_thread.join()
    assert slow.blocks == [LONG, LONG[::-1]]


def test_short_blocks_stay_in_order_after_long_ones(
    slow: Slow, digest_thread: DigestThread
) -> None:
    digest_thread.update(memoryview(LONG))
    digest_thread.update(memoryview(b"short"))
    for _ in range(3):
        slow.go.release()
    digest_thread.join()
    digest_thread.update(memoryview(b"alone"))
    assert slow.blocks == [LONG, b"short", b"alone"]
    assert slow.threads[-1] == threading.get_ident()


def test_all_digests_take_all_blocks() -> None:
    digests = [hashlib.md5(), hashlib.sha256()]
    digest_thread = DigestThread(digests)
    content = b"".join([LONG, b"x" * 1000, LONG, LONG])
    for piece in (LONG, b"x" * 1000, LONG, LONG):
        digest_thread.wait_for_buffer()
        digest_thread.update(memoryview(piece))
    digest_thread.join()
    assert [digest.hexdigest() for digest in digests] == [
        hashlib.md5(content).hexdigest(),
        hashlib.sha256(content).hexdigest(),
    ]
    digest_thread.close()
    digest_thread.close()


def test_without_digests_there_is_no_thread() -> None:
    before = threading.active_count()
    digest_thread = DigestThread([])
    digest_thread.update(memoryview(LONG))
    digest_thread.join()
    assert threading.active_count() == before
    digest_thread.close()


def test_the_thread_ends(slow: Slow, digest_thread: DigestThread) -> None:
    digest_thread.update(memoryview(LONG))
    (thread,) = (
        one for one in threading.enumerate() if one.name == "flask-chunked-digest"
    )
    digest_thread.close()
    slow.go.release()
    thread.join(10)
    assert not thread.is_alive()


def test_the_error_of_a_digest_is_raised(
    slow: Slow, digest_thread: DigestThread
) -> None:
    slow.failure = ValueError("no digest")
    digest_thread.update(memoryview(LONG))
    slow.go.release()
    with pytest.raises(ValueError, match="no digest"):
        digest_thread.join()


@pytest.mark.parametrize("why", ["no more threads", "threads of gevent"])
def test_without_a_thread_the_caller_hashes(
    slow: Slow, digest_thread: DigestThread, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def refuse(*arguments: object, **named: object) -> int:
        raise RuntimeError("can't start new thread")

    if why == "no more threads":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    else:
        # After monkey patching, the function is of another module.
        monkeypatch.setattr(_thread, "start_new_thread", refuse)
    slow.go.release()
    digest_thread.update(memoryview(LONG))
    assert slow.threads == [threading.get_ident()]
