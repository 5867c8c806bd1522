"""tus: bodies with a digest (extensions checksum and checksum-trailer).

The digest is of this request's body, not of the file. Such a body is staged as a whole
and appended only if its digest matches, so that neither a mismatch nor a crash leaves
bytes in the upload.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Iterator
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
from ...request.server_input import server_input

HEADER = "Upload-Checksum"


@dataclass(frozen=True, slots=True)
class ChecksumDemand:
    """The digests that the client sends.

    :param header: the digest in the headers.
    :param in_trailer: True if the headers announce a digest in a trailer.
    """

    header: Checksum | None
    in_trailer: bool

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The ones to compute; all of them if only a trailer will name it."""
        if self.in_trailer or self.header is None:
            return tuple(CHECKSUM_SIZES)
        return (self.header.algorithm,)


class Digests:
    """Several digests of one body, computed while it is received."""

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
        """True if the digest is that of the bytes so far."""
        if expected.algorithm == "crc32":
            actual = self._crc.to_bytes(4, "big")
        else:
            actual = self._hashers[expected.algorithm].digest()
        return hmac.compare_digest(actual, expected.digest)


def checksum_demand(request: UploadRequest) -> ChecksumDemand | None:
    """What the headers say about a digest; ``None``: nothing.

    :raises MalformedHeader: the digest is malformed, its algorithm is not supported, or
        the server does not pass the announced trailer on.
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
    """Stage the request's body and compare its digest.

    :param stop: the largest offset at which the body may end; ``None``: no limit.
    :param offset: of the body's first byte in the upload.
    :param file_digest: of the whole file; the body continues it.
    :raises ChecksumMismatch: the digest is not that of the body.
    :raises TooLarge: the body goes beyond ``stop``.
    :raises BodyInterrupted: the client disconnected; no byte is kept.
    """
    limits = PartLimits(refuse_above=None if stop is None else stop - offset)
    digests = Digests(demand.algorithms)
    with ExitStack() as stack:
        part = open_part(stack, stage_target(request, file_digest), limits, [digests])
        try:
            receive_body(request, part)
        except TooLarge as error:
            # Report the limit of the file, not the room that was left.
            raise TooLarge(stop or 0) from error
        expected = [] if demand.header is None else [demand.header]
        if demand.in_trailer:
            expected.append(_from_trailer(request.http.environ))
        if not all(digests.matches(checksum) for checksum in expected):
            raise ChecksumMismatch()
        yield part


def trailers_arrive(environ: dict[str, Any]) -> bool:
    """True if this server passes the trailers of a chunked body on."""
    body = server_input(environ)
    if "gunicorn.socket" in environ:
        return getattr(body, "reader", None) is not None
    # Check the module, not the class: only the reader of a chunked body has trailers,
    # but OPTIONS asks, too.
    return type(body).__module__.partition(".")[0] == "cheroot"


def _from_trailer(environ: dict[str, Any]) -> Checksum:
    for name, value in _trailers(server_input(environ)):
        if name.lower() == HEADER.lower():
            return Checksum.from_header(value.strip())
    raise MalformedHeader(HEADER, "", "was announced as a trailer but is missing")


def _trailers(body: Any) -> list[tuple[str, str]]:
    """The trailers of a body that was read to its end."""
    if not hasattr(body, "read_trailer_lines"):
        message = getattr(getattr(body, "reader", None), "req", None)
        return list(getattr(message, "trailers", None) or ())
    try:
        # Read all of them: the server would take the rest for the next request.
        lines = [line.decode("latin-1") for line in body.read_trailer_lines()]
    except (OSError, ValueError) as error:
        raise MalformedHeader("Trailer", "", "the trailers have no end") from error
    parts = [line.partition(":") for line in lines]
    return [(name, value) for name, _, value in parts]
