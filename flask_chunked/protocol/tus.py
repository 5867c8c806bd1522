"""Header codecs of tus 1.0.0: numbers, metadata, checksums, concatenation.

Pure: str in, frozen values out. Callers handle absent headers.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..exceptions import MalformedHeader

#: The supported version of the protocol.
VERSION = "1.0.0"
#: Content-Type of a body that carries bytes of an upload (Core, PATCH).
CONTENT_TYPE = "application/offset+octet-stream"
#: The largest number of bytes that a header may contain.
MAX_NUMBER = 2**63 - 1
#: Algorithms of ``Upload-Checksum``, and the sizes of their digests in bytes. A crc32
#: is four bytes, most significant byte first; the specification leaves its form open.
CHECKSUM_SIZES: Mapping[str, int] = {
    "sha1": 20,
    "md5": 16,
    "sha256": 32,
    "sha512": 64,
    "crc32": 4,
}
#: Limits of ``Upload-Metadata``.
MAX_METADATA_BYTES = 4096
MAX_METADATA_KEYS = 20
#: The most partial uploads of one final upload.
MAX_PARTIALS = 100

_NUMBER = re.compile(r"\A[0-9]{1,19}\Z")
_KEY = re.compile(r"\A[\x21-\x2b\x2d-\x7e]{1,64}\Z")
_ALGORITHM = re.compile(r"\A[a-z0-9_-]{1,32}\Z")
# Python versions differ in what b64decode(validate=True) accepts.
_BASE64 = re.compile(
    r"\A(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z"
)


def parse_number(name: str, value: str) -> int:
    """Parse ``Upload-Offset`` or ``Upload-Length``: a non-negative number of bytes.

    :raises MalformedHeader: the value has another form, such as two joined headers.
    """
    if not _NUMBER.match(value):
        raise MalformedHeader(name, value, "must be 1 to 19 digits")
    number = int(value)
    if number > MAX_NUMBER:
        raise MalformedHeader(name, value, f"must not exceed {MAX_NUMBER}")
    return number


@dataclass(frozen=True, slots=True)
class Metadata:
    """``Upload-Metadata`` (extension creation): keys and the bytes of their values.

    :ivar raw: the header as the client sent it, for HEAD; empty if there was none.
    """

    raw: str
    values: Mapping[str, bytes]

    @classmethod
    def from_header(cls, value: str) -> Metadata:
        """Parse the header. An empty header means no metadata.

        :raises MalformedHeader: a key is missing, invalid or repeated, a value is not
            standard Base64, or the header exceeds a limit.
        """
        if len(value) > MAX_METADATA_BYTES:
            raise _bad_metadata(value, f"longer than {MAX_METADATA_BYTES} bytes")
        raw = value.strip(" ")
        if not raw:
            return cls("", {})
        pairs = raw.split(",")
        if len(pairs) > MAX_METADATA_KEYS:
            raise _bad_metadata(value, f"more than {MAX_METADATA_KEYS} keys")
        values: dict[str, bytes] = {}
        for pair in pairs:
            key, _, encoded = pair.strip(" ").partition(" ")
            if not _KEY.match(key):
                raise _bad_metadata(value, "a key must be 1 to 64 printable characters")
            if key in values:
                raise _bad_metadata(value, "a key must not be repeated")
            decoded = _decode_base64(encoded)
            if decoded is None:
                raise _bad_metadata(value, "a value is not standard Base64")
            values[key] = decoded
        return cls(raw, values)

    def to_header(self) -> str:
        """The header as the client sent it."""
        return self.raw

    def text(self, *keys: str) -> str | None:
        """The value of the first of these keys that exists, as text."""
        for key in keys:
            if key in self.values:
                return self.values[key].decode("utf-8", "replace")
        return None


@dataclass(frozen=True, slots=True)
class Checksum:
    """``Upload-Checksum`` (extension checksum): algorithm and digest of one body."""

    algorithm: str
    digest: bytes

    @classmethod
    def from_header(cls, value: str) -> Checksum:
        """Parse ``<algorithm> <base64>``.

        :raises MalformedHeader: the value has another form, the algorithm is not
            supported, or the digest is invalid.
        """
        algorithm, separator, encoded = value.partition(" ")
        if not separator or not _ALGORITHM.match(algorithm):
            raise MalformedHeader(
                "Upload-Checksum", value, "must be: algorithm, one space, base64"
            )
        size = CHECKSUM_SIZES.get(algorithm)
        if size is None:
            known = ", ".join(CHECKSUM_SIZES)
            raise MalformedHeader(
                "Upload-Checksum", value, f"algorithm must be one of: {known}"
            )
        digest = _decode_base64(encoded)
        if digest is None:
            raise MalformedHeader(
                "Upload-Checksum", value, "digest is not standard Base64"
            )
        if len(digest) != size:
            raise MalformedHeader(
                "Upload-Checksum", value, f"a {algorithm} digest has {size} bytes"
            )
        return cls(algorithm, digest)

    def to_header(self) -> str:
        """Format the header in its canonical form."""
        return f"{self.algorithm} {base64.b64encode(self.digest).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Concat:
    """``Upload-Concat`` (extension concatenation).

    :ivar raw: the header as the client sent it, for HEAD.
    :ivar urls: the URLs of the partial uploads, in order; empty for a partial upload.
    """

    raw: str
    urls: tuple[str, ...]

    @property
    def is_final(self) -> bool:
        """True for a final upload, which is made from partial uploads."""
        return bool(self.urls)

    @classmethod
    def from_header(cls, value: str) -> Concat:
        """Parse ``partial`` or ``final;URL URL ...``.

        :raises MalformedHeader: the value has another form, no URL or too many URLs.
        """
        if value == "partial":
            return cls(value, ())
        kind, separator, rest = value.partition(";")
        urls = tuple(url for url in rest.split(" ") if url)
        is_text = rest.isascii() and rest.isprintable()
        if kind != "final" or not separator or not urls or not is_text:
            raise MalformedHeader(
                "Upload-Concat", value, "must be 'partial' or 'final;' and URLs"
            )
        if len(urls) > MAX_PARTIALS:
            raise MalformedHeader(
                "Upload-Concat", value, f"names more than {MAX_PARTIALS} uploads"
            )
        return cls(value, urls)

    def to_header(self) -> str:
        """The header as the client sent it."""
        return self.raw


def require_defer_length(value: str) -> None:
    """Check ``Upload-Defer-Length`` (extension creation-defer-length).

    :raises MalformedHeader: the value is not 1, the only one that tus defines.
    """
    if value != "1":
        raise MalformedHeader("Upload-Defer-Length", value, "must be 1")


def _decode_base64(encoded: str) -> bytes | None:
    """Decode padded, standard Base64; ``None`` if it is invalid."""
    return base64.b64decode(encoded) if _BASE64.match(encoded) else None


def _bad_metadata(value: str, reason: str) -> MalformedHeader:
    return MalformedHeader("Upload-Metadata", value, reason)
