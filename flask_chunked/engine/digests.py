"""Digests that one worker interrupts and another resumes.

``hashlib`` does not export the state of a digest. OpenSSL, which ``hashlib`` uses,
keeps md5, sha1, sha256 and sha512 in plain structures of fixed layout. If its functions
are hidden, the package ``rehashes`` replaces them. Without either, completion reads the
file again. Each implementation is compared with ``hashlib`` before its first use.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import struct
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

Buffer = bytes | bytearray | memoryview

#: Name -> function prefix, size of the context and of the digest in bytes.
_OPENSSL: dict[str, tuple[str, int, int]] = {
    "md5": ("MD5", 92, 16),
    "sha1": ("SHA1", 96, 20),
    "sha256": ("SHA256", 112, 32),
    "sha512": ("SHA512", 216, 64),
}
#: Precedes every state: a tag for its implementation and byte order, bytes hashed.
_HEADER = struct.Struct("<2sQ")
_OPENSSL_TAG = b"O<" if sys.byteorder == "little" else b"O>"
_REHASHES_TAG = b"R1"


class Running(Protocol):
    """A digest that takes more bytes."""

    def update(self, data: Buffer) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far; more may follow."""

    def dump(self) -> bytes:
        """The state, from which another process resumes."""


class _OpenSSLDigest:
    """A digest in a structure of OpenSSL; ``ctypes`` releases the GIL for its calls."""

    def __init__(self, name: str, context: bytes | None = None) -> None:
        prefix, self._size, self._digest_size = _OPENSSL[name]
        library = _openssl()
        self._update = getattr(library, f"{prefix}_Update")
        self._final = getattr(library, f"{prefix}_Final")
        # Larger than the structure, because a fork of the library may have enlarged it.
        self._context = ctypes.create_string_buffer(512)
        if context is None:
            getattr(library, f"{prefix}_Init")(self._context)
        else:
            ctypes.memmove(self._context, context, self._size)

    def update(self, data: Buffer) -> None:
        view = memoryview(data)
        if view.readonly:
            self._update(self._context, bytes(view), view.nbytes)
        elif view.nbytes:
            first = ctypes.c_char.from_buffer(view)
            self._update(self._context, ctypes.byref(first), view.nbytes)

    def hexdigest(self) -> str:
        copy = ctypes.create_string_buffer(self._context.raw, 512)
        digest = ctypes.create_string_buffer(self._digest_size)
        self._final(digest, copy)
        return digest.raw.hex()

    def dump(self) -> bytes:
        return self._context.raw[: self._size]


class _RehashesDigest:
    """A digest of the package ``rehashes``."""

    def __init__(self, name: str, state: bytes | None = None) -> None:
        module = importlib.import_module("rehashes")
        self._kind = getattr(module, f"Py{name.capitalize()}")
        self._hasher: Any = (
            self._kind() if state is None else self._kind.deserialize(state)
        )

    def update(self, data: Buffer) -> None:
        self._hasher.update(bytes(data))

    def hexdigest(self) -> str:
        # finalize() ends a digest, so a copy is finalized.
        digest = self._kind.deserialize(self.dump()).finalize()
        return digest if isinstance(digest, str) else bytes(digest).hex()

    def dump(self) -> bytes:
        return bytes(self._hasher.serialize())


class FileDigest:
    """The digest of a file's first bytes, and their number.

    :ivar count: bytes that are hashed.
    :ivar origin: the state that it was resumed from; ``None``: it began at offset 0.
    """

    def __init__(
        self, running: Running, tag: bytes, count: int = 0, origin: bytes | None = None
    ) -> None:
        self._running = running
        self._tag = tag
        self.count = count
        self.origin = origin

    def update(self, data: Buffer) -> None:
        """Take the next bytes."""
        self._running.update(data)
        self.count += len(data)

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""
        return self._running.hexdigest()

    def dump(self) -> bytes:
        """The state, for :func:`resume` in any process on machines of this kind."""
        return _HEADER.pack(self._tag, self.count) + self._running.dump()


def begin(name: str) -> FileDigest | None:
    """A new digest; ``None``: no digest of this name can be resumed."""
    for tag, kind in _makers(name):
        return FileDigest(kind(name, None), tag)
    return None


def resume(name: str | None, state: bytes | None, count: int) -> FileDigest | None:
    """Resume a digest where :meth:`FileDigest.dump` was called.

    :param name: of the algorithm; ``None``: no digest is wanted.
    :param state: of the digest; ``None``: there is none, so ``count`` must be 0.
    :param count: bytes that the digest must have taken.
    :return: ``None``: the state is of other bytes, or not readable on this machine.
    """
    if name is None:
        return None
    if state is None or len(state) <= _HEADER.size:
        return begin(name) if state is None and count == 0 else None
    written_by, taken = _HEADER.unpack_from(state)
    if taken != count:
        return None
    for tag, kind in _makers(name):
        if tag == written_by:
            running = kind(name, state[_HEADER.size :])
            return FileDigest(running, tag, count, state)
    return None


Maker = Callable[[str, bytes | None], Running]


@lru_cache(maxsize=16)
def _makers(name: str) -> tuple[tuple[bytes, Maker], ...]:
    """The implementations that are right for this algorithm, the fastest first."""
    candidates: tuple[tuple[bytes, Maker], ...] = (
        (_OPENSSL_TAG, _OpenSSLDigest),
        (_REHASHES_TAG, _RehashesDigest),
    )
    return tuple((tag, kind) for tag, kind in candidates if _is_right(kind, name))


def _is_right(kind: Maker, name: str) -> bool:
    """True if a digest that is dumped and resumed equals that of ``hashlib``."""
    if name not in _OPENSSL:
        return False
    data = bytearray(range(251)) * 5
    try:
        for size in (0, 1, 55, 64, 111, 128, 1000, len(data)):
            first = kind(name, None)
            first.update(memoryview(data)[:size])
            second = kind(name, first.dump())
            first.update(b"no effect on the second")
            second.update(memoryview(data)[size:])
            expected = hashlib.new(name, data).hexdigest()
            if (second.hexdigest(), second.hexdigest()) != (expected, expected):
                return False
    # The library is missing, or its functions are not what their names say.
    except (OSError, AttributeError, ImportError, TypeError, ValueError):
        return False
    return True


@lru_cache(maxsize=1)
def _openssl() -> ctypes.CDLL:
    """The OpenSSL that Python itself uses.

    :raises AttributeError: its functions are hidden.
    """
    # The lookup of symbols includes the libraries that the extension is linked to.
    extension = importlib.import_module("_hashlib")
    library = ctypes.CDLL(str(extension.__file__))
    for prefix, _, _ in _OPENSSL.values():
        init = getattr(library, f"{prefix}_Init")
        update = getattr(library, f"{prefix}_Update")
        final = getattr(library, f"{prefix}_Final")
        init.argtypes = [ctypes.c_void_p]
        update.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        final.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    return library
