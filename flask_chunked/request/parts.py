"""The file part of a form, or a raw body in its place, on its way to a sink.

Knows nothing of how a form is parsed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

from ..engine.atomic import AtomicWriter, ShortChunk
from ..engine.digest_thread import Digest, DigestThread
from ..engine.digests import FileDigest
from ..exceptions import TooLarge
from ..storage.base import Stage
from .body import BodyReader
from .buffers import release_buffer, take_buffer
from .context import UploadRequest
from .multipart import BUFFER_SIZE

#: What takes the bytes of a file part.
PartSink = Stage | AtomicWriter | ShortChunk


@dataclass(frozen=True, slots=True)
class PartLimits:
    """How much of a file part is stored.

    :param keep: bytes to store; more are only counted, for the error message.
    :param refuse_above: bytes above which the request is refused at once.
    """

    keep: int | None = None
    refuse_above: int | None = None


@dataclass(frozen=True, slots=True)
class PartTarget:
    """The destination of a file part.

    :param open: opens the sink, which is closed when the form has been handled;
        ``None``: the bytes are not stored, only their SHA-256 is computed.
    :param file_digest: of the whole file; a staged part continues it.
    """

    open: Callable[[], AbstractContextManager[PartSink]] | None
    file_digest: FileDigest | None = None


class FilePart:
    """The file part of a form while its bytes go to their sink.

    :param sink: ``None``: the bytes are not stored, only their SHA-256 is computed.
    :param digests: further digests of all bytes that are kept.
    """

    def __init__(
        self,
        sink: PartSink | None,
        limits: PartLimits,
        digests: Sequence[Digest] = (),
    ) -> None:
        self.stage = sink if isinstance(sink, Stage) else None
        self.writer = sink if isinstance(sink, AtomicWriter) else None
        self.short = sink if isinstance(sink, ShortChunk) else None
        self.size = 0
        self.filename: str | None = None
        self.content_type: str | None = None
        self.file_digest: FileDigest | None = None
        self._sink = sink
        self._limits = limits
        # Stored bytes can be read again when their digest is needed.
        self._digest = hashlib.sha256() if sink is None else None
        own = [] if self._digest is None else [self._digest]
        self._digest_thread = DigestThread([*own, *digests])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of a part that was not stored; ``""`` of one that was."""
        return "" if self._digest is None else self._digest.hexdigest()

    def fill(self, body: BodyReader, view: memoryview) -> int:
        """Read some of the body; leave the atomic chunk's section before waiting.

        :return: bytes read; 0 is the end of the body.
        """
        writer = self.writer
        if writer is not None and writer.is_inside:
            # write() checks the time too, but is not called for bytes of the form that
            # do not belong to the file.
            count = 0 if writer.is_due else body.read_nowait_into(view)
            if count or body.ended:
                return count
            writer.pause()
        return body.read_into(view)

    @property
    def holds_block(self) -> bool:
        """True while a block of an earlier :meth:`write` may be read."""
        writer = self.writer
        return self._digest_thread.is_at_work or (
            writer is not None and writer.is_at_work
        )

    def wait_for_buffer(self) -> None:
        """Wait until the block before the last one is no longer needed."""
        self._digest_thread.wait_for_buffer()
        if self.writer is not None:
            self.writer.wait_for_buffer()

    def write(self, block: bytes | memoryview) -> int:
        """Take bytes of the part.

        :raises TooLarge: the part is larger than the limit.
        """
        limit = self._limits.refuse_above
        if limit is not None and self.size + len(block) > limit:
            raise TooLarge(limit)
        keep = self._limits.keep
        room = len(block) if keep is None else max(0, keep - self.size)
        kept = memoryview(block)[:room]
        if room < len(block):
            # The two receive buffers are reused in turn, so either every block is
            # queued for the digests or none.
            self._digest_thread.join()
        if kept:
            if self._sink is not None:
                self._sink.write(kept)
            self._digest_thread.update(kept)
        self.size += len(block)
        return len(block)

    def join(self) -> None:
        """Wait until the digests include every byte."""
        self._digest_thread.join()

    def close(self) -> None:
        """Stop the digests; a second call has no effect."""
        self._digest_thread.close()


def stage_target(
    request: UploadRequest, file_digest: FileDigest | None = None
) -> PartTarget:
    """A new stage of the storage.

    :param file_digest: of the whole file that the part continues.
    """
    return PartTarget(request.engine.storage.stage, file_digest)


def memory_target() -> PartTarget:
    """Memory, for a short part that creates an upload."""
    return PartTarget(lambda: nullcontext(ShortChunk()))


def open_part(
    stack: ExitStack,
    target: PartTarget,
    limits: PartLimits,
    digests: Sequence[Digest] = (),
) -> FilePart:
    """Open the target and return the part that writes to it.

    :param stack: closes part and sink.
    :param digests: further digests of the part's bytes.
    """
    sink = None if target.open is None else stack.enter_context(target.open())
    if isinstance(sink, Stage) and limits.keep is not None:
        sink.set_length(limits.keep)
    own = [] if target.file_digest is None else [target.file_digest]
    part = FilePart(sink, limits, [*own, *digests])
    part.file_digest = target.file_digest
    stack.callback(part.close)
    return part


def receive_body(request: UploadRequest, part: FilePart) -> None:
    """Read the whole body into a part."""
    length = request.announced_length()
    size = BUFFER_SIZE if length is None else max(1, min(BUFFER_SIZE, length))
    buffers = [take_buffer(size) for _ in range(2)]
    for buffer in itertools.cycle(buffers):
        part.wait_for_buffer()
        view = memoryview(buffer)[:size]
        count = request.body.read_into(view)
        if not count:
            break
        part.write(view[:count])
    part.join()
    for buffer in buffers:
        release_buffer(buffer)
