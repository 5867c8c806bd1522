"""Digests that another process resumes, and digests that cannot be resumed."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_chunked.engine import digests as hashing
from flask_chunked.engine.digests import begin, resume

NAMES = ["md5", "sha1", "sha256", "sha512"]
CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Clear the cache of implementations, because tests hide libraries."""
    hashing._makers.cache_clear()
    hashing._openssl.cache_clear()
    yield
    hashing._makers.cache_clear()
    hashing._openssl.cache_clear()


@given(
    name=st.sampled_from(NAMES),
    content=st.binary(max_size=700),
    cuts=st.lists(st.integers(0, 700), max_size=5),
)
def test_a_digest_resumed_at_any_byte_equals_hashlib(
    name: str, content: bytes, cuts: list[int]
) -> None:
    bounds = sorted({min(cut, len(content)) for cut in cuts} | {0, len(content)})
    state: bytes | None = None
    for start, stop in itertools.pairwise(bounds):
        digest = resume(name, state, start)
        assert digest is not None
        digest.update(memoryview(bytearray(content))[start:stop])
        state = digest.dump()
    digest = resume(name, state, len(content))
    assert digest is not None
    assert digest.hexdigest() == hashlib.new(name, content).hexdigest()
    assert digest.hexdigest() == digest.hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_another_process_resumes(name: str) -> None:
    digest = begin(name)
    assert digest is not None
    digest.update(CONTENT[:1001])
    code = (
        "import sys; from flask_chunked.engine.digests import resume;"
        f"d = resume({name!r}, bytes.fromhex({digest.dump().hex()!r}), 1001);"
        f"d.update((bytes(range(256)) * 40)[1001:]); print(d.hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.new(name, CONTENT).hexdigest()


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), b""])
def test_every_kind_of_buffer_is_hashed(data: bytes | bytearray | memoryview) -> None:
    digest = begin("md5")
    assert digest is not None
    digest.update(data)
    assert digest.hexdigest() == hashlib.md5(data).hexdigest()
    assert digest.count == len(data)


@pytest.mark.parametrize("name", ["blake2b", "sha3_256", "no-such"])
def test_other_algorithms_cannot_be_resumed(name: str) -> None:
    assert begin(name) is None
    assert resume(name, None, 0) is None


@pytest.mark.parametrize(
    ("state", "count"),
    [(None, 5), (b"", 0), (b"xx", 0), (b"??" + bytes(8) + bytes(92), 0)],
    ids=["no state", "empty", "short", "another writer"],
)
def test_an_unreadable_state_is_none(state: bytes | None, count: int) -> None:
    assert resume("md5", state, count) is None


def test_a_state_of_other_bytes_is_none() -> None:
    digest = begin("md5")
    assert digest is not None
    digest.update(b"abc")
    assert resume("md5", digest.dump(), 4) is None
    assert resume("md5", digest.dump(), 3) is not None


def test_no_algorithm_is_no_digest() -> None:
    assert resume(None, None, 0) is None


def test_without_openssl_another_library_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec("rehashes") is None:
        pytest.skip("rehashes is not installed")

    def hidden(name: str) -> ctypes.CDLL:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", hidden)
    for name in NAMES:
        digest = begin(name)
        assert digest is not None
        digest.update(CONTENT[:77])
        digest = resume(name, digest.dump(), 77)
        assert digest is not None
        digest.update(CONTENT[77:])
        assert digest.hexdigest() == hashlib.new(name, CONTENT).hexdigest()
        assert digest.dump().startswith(b"R1")


def test_without_any_library_there_is_no_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert begin("md5") is None


def test_a_library_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrong(hashing._OpenSSLDigest):
        def hexdigest(self) -> str:
            return "0" * 32

    assert hashing._is_right(hashing._OpenSSLDigest, "md5")
    assert not hashing._is_right(Wrong, "md5")
