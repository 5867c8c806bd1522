"""tus: bodies with a digest (extensions checksum and checksum-trailer).

The digest is of this request's body, not of the file. Such a body is received whole
beside the upload and joins it only when it was found right, so that neither a mismatch
nor a crash leaves anything behind.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ...engine.digests import FileDigest
from ...exceptions import ChecksumMismatch, MalformedHeader, TooLarge
from ...protocol.tus import CHECKSUM_SIZES, Checksum
from ...request.context import UploadRequest
from ...request.parts import (
    FilePart,
    PartLimits,
    open_part,
    receive_body,
    stage_target,
)

HEADER = "Upload-Checksum"


@dataclass(frozen=True, slots=True)
class ChecksumDemand:
    """What the client wants compared.

    :param header: the digest that came with the headers.
    :param in_trailer: a digest was announced for the end of the body.
    """

    header: Checksum | None
    in_trailer: bool

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Those to run while the body passes; all, where only its end will tell."""
        if self.in_trailer or self.header is None:
            return tuple(CHECKSUM_SIZES)
        return (self.header.algorithm,)


class Digests:
    """Several digests of one body, taken while it passes."""

    def __init__(self, algorithms: tuple[str, ...]) -> None:
        self._crc = 0
        self._hashers = {
            name: hashlib.new(name) for name in algorithms if name != "crc32"
        }

    def update(self, block: memoryview) -> None:
        """Take the next bytes."""
        self._crc = zlib.crc32(block, self._crc)
        for hasher in self._hashers.values():
            hasher.update(block)

    def matches(self, expected: Checksum) -> bool:
        """Is this the digest of what passed?"""
        if expected.algorithm == "crc32":
            actual = self._crc.to_bytes(4, "big")
        else:
            actual = self._hashers[expected.algorithm].digest()
        return hmac.compare_digest(actual, expected.digest)


def checksum_demand(request: UploadRequest) -> ChecksumDemand | None:
    """What the headers say about a digest; ``None``: nothing.

    :raises MalformedHeader: no digest, or of an algorithm that is not supported.
    """
    text, trailers = request.header(HEADER), request.header("Trailer")
    if text is None and trailers is None:
        return None
    header = None if text is None else Checksum.from_header(text)
    announced = (trailers or "").lower().split(",")
    in_trailer = HEADER.lower() in (name.strip() for name in announced)
    if in_trailer and not trailers_arrive(request.http.environ):
        raise MalformedHeader("Trailer", "", "this server does not pass trailers on")
    if header is None and not in_trailer:
        return None
    return ChecksumDemand(header, in_trailer)


@contextmanager
def receive_checked(
    request: UploadRequest,
    demand: ChecksumDemand,
    stop: int | None,
    offset: int = 0,
    file_digest: FileDigest | None = None,
) -> Iterator[FilePart]:
    """The request's body, staged and found right.

    :param stop: where the upload must end at the latest; ``None``: no limit.
    :param offset: where the body goes to.
    :param file_digest: of the whole file, to be gone on with.
    :raises ChecksumMismatch: it is not what the client took the digest of.
    :raises TooLarge: more than fits.
    :raises BodyInterrupted: it was cut; then nothing of it is kept.
    """
    limits = PartLimits(refuse_above=None if stop is None else stop - offset)
    digests = Digests(demand.algorithms)
    with ExitStack() as stack:
        part = open_part(stack, stage_target(request, file_digest), limits, [digests])
        try:
            receive_body(request, part)
        except TooLarge as error:
            # The limit is the file's, not what was left of it.
            raise TooLarge(stop or 0) from error
        expected = [] if demand.header is None else [demand.header]
        if demand.in_trailer:
            expected.append(_from_trailer(request.http.environ))
        if not all(digests.matches(checksum) for checksum in expected):
            raise ChecksumMismatch()
        yield part


def trailers_arrive(environ: Mapping[str, Any]) -> bool:
    """Does this server pass trailers of a chunked body on to the application?"""
    body = environ.get("wsgi.input")
    if "gunicorn.socket" in environ:
        return getattr(body, "reader", None) is not None
    # cheroot's readers of other bodies have no trailers, and OPTIONS has no body.
    return type(body).__module__.partition(".")[0] == "cheroot"


def _from_trailer(environ: Mapping[str, Any]) -> Checksum:
    for name, value in _trailers(environ["wsgi.input"]):
        if name.lower() == HEADER.lower():
            return Checksum.from_header(value.strip())
    raise MalformedHeader(HEADER, "", "was announced as a trailer and did not come")


def _trailers(body: Any) -> list[tuple[str, str]]:
    """The trailers of the body, which must have been read to its end."""
    if not hasattr(body, "read_trailer_lines"):
        message = getattr(getattr(body, "reader", None), "req", None)
        return list(getattr(message, "trailers", None) or ())
    try:
        # All of them: what is left would be taken for the client's next request.
        lines = [line.decode("latin-1") for line in body.read_trailer_lines()]
    except (OSError, ValueError) as error:
        raise MalformedHeader("Trailer", "", "the trailers have no end") from error
    parts = [line.partition(":") for line in lines]
    return [(name, value) for name, _, value in parts]
