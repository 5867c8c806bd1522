"""Appends to uploads: streamed bodies, atomic chunks, and claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ..exceptions import (
    AlreadyComplete,
    BodyInterrupted,
    BytesMissing,
    ChunkedUploadError,
    ChunkSizeMismatch,
    OffsetMismatch,
    StorageError,
    Superseded,
    UnknownUpload,
    UploadExpired,
)
from ..storage.base import Stage
from .atomic import AtomicWriter
from .complete import Completer, stored_digest
from .digests import FileDigest, resume
from .expiry import Expiry
from .gate import Action, Gate, require
from .interruption import ActiveReaders
from .ports import Ports, Reader
from .records import CompletionRecord, Upload
from .remove import Remover
from .states import Status
from .stream import StreamWriter
from .verification import release
from .writer import Claim, UploadWriter

Writer = TypeVar("Writer", bound=UploadWriter)


class Appender:
    """Appends chunks to uploads."""

    def __init__(
        self,
        ports: Ports,
        expiry: Expiry,
        completer: Completer,
        remover: Remover,
        readers: ActiveReaders,
    ) -> None:
        self._ports = ports
        self._repository = ports.repository
        self._storage = ports.storage
        self._gate = Gate(ports.policy, ports.storage)
        self._expiry = expiry
        self._completer = completer
        self._remover = remover
        self._readers = readers

    # -- chunks --------------------------------------------------------------------

    def stream(
        self,
        upload: Upload,
        start: int,
        stop: int | None,
        reader: Reader,
        *,
        exact: bool = True,
        finishing: bool = False,
    ) -> Upload:
        """Append a body as it arrives. If an error ends it, the received bytes stay.

        :param stop: the offset that the body must not pass; ``None``: no limit.
        :param exact: the body must reach ``stop``.
        :param finishing: the commit of the upload's last byte begins completion. The
            status of the result says so, and :meth:`Completer.finish` continues it. If
            the body is the whole file and short, that commit completes the upload.
        :raises ChunkSizeMismatch: the body ends elsewhere; what fits is kept.
        :raises OffsetMismatch: the upload's offset is not ``start``.
        :raises BodyInterrupted, BodyTimeout: the received bytes are committed.
        :raises FinalUpload: a final upload gets bytes from partial uploads only.
        """
        require(upload, Action.APPEND)
        claim = partial(self.claim, upload, start, reader)
        # A short body arrives at once, so its only section may do without a claim.
        may_wait = reader.is_short and start == upload.offset
        if may_wait and not self._storage.keeps_parts:
            writer = self._stream_writer(upload, finishing, claim)
        else:
            writer = self._stream_writer(claim(None), finishing)
        return self._stream(writer, stop, reader, exact)

    def stream_first(
        self,
        upload: Upload,
        stop: int | None,
        reader: Reader,
        *,
        exact: bool = True,
        finishing: bool = False,
    ) -> Upload:
        """:meth:`stream` into an upload that this request has made, without a claim."""
        require(upload, Action.APPEND)
        writer = self._stream_writer(upload, finishing)
        return self._stream(writer, stop, reader, exact)

    def whole(
        self,
        upload: Upload,
        start: int,
        stage: Stage,
        file_digest: FileDigest | None = None,
        *,
        finishing: bool = False,
    ) -> Upload:
        """Append all bytes of a stage as one chunk, or none of them.

        :param file_digest: of the file up to the chunk's end, if it was computed while
            the chunk arrived (:meth:`file_digest`).
        :param finishing: as in :meth:`stream`.
        :raises OffsetMismatch: the upload's offset is not ``start``, and the chunk does
            not repeat the last one.
        """
        require(upload, Action.APPEND)
        stop = start + stage.size
        try:
            claimed = self.claim(upload, start)
        except OffsetMismatch:
            current = self._repository.get(upload.id)
            if current is None or not self.may_repeat(current, start, stop):
                raise
            if not self.is_repeat(current, start, stop, stage.sha256().hexdigest()):
                raise
            return current
        with self.writing(
            UploadWriter(claimed, self._ports, finishing=finishing)
        ) as writer:
            writer.take(stage, file_digest)
        return self._received(writer.upload)

    @contextmanager
    def hold(
        self, upload: Upload, start: int, reader: Reader
    ) -> Iterator[AtomicWriter]:
        """Write an atomic chunk. An error in the ``with`` body rolls it back.

        :param reader: of the request's body.
        :raises OffsetMismatch: the upload's offset is not ``start``.
        """
        require(upload, Action.APPEND)
        if start != upload.offset:
            raise refused_offset(upload, start)
        claim = partial(self.claim, upload, start, reader)
        with (
            self.writing(AtomicWriter(upload, self._ports, claim=claim)) as writer,
            self._readers.register(upload.id, reader),
        ):
            try:
                yield writer
            except BaseException:
                writer.interrupted = reader.interrupted
                writer.rollback()
                raise
            if writer.committed > start and not writer.is_claimed:
                # A claim would have interrupted the other bodies.
                self._readers.interrupt(upload.id, but=reader)

    def commit(self, writer: AtomicWriter) -> Upload:
        """Commit the chunk of :meth:`hold`.

        :raises Superseded: another request has the upload.
        :raises UploadExpired: it expired while the chunk arrived.
        """
        if not writer.is_claimed:
            self._expiry.require_live(writer.upload)
        writer.commit()
        return self._received(writer.upload)

    def file_digest(self, upload: Upload) -> FileDigest | None:
        """The digest of the file up to the offset; the caller can add bytes to it."""
        return resume(upload.hash_name, upload.hash_state, upload.offset)

    # -- repeats -------------------------------------------------------------------

    def may_repeat(self, upload: Upload, start: int, stop: int) -> bool:
        """True if this is the range of the last committed chunk."""
        return stop == upload.offset and start == upload.last_start and start < stop

    def is_repeat(self, upload: Upload, start: int, stop: int, digest: str) -> bool:
        """True if a chunk repeats the last committed one, byte for byte.

        :param digest: SHA-256 (hex) of the received bytes.
        :raises UnknownUpload: the upload was removed concurrently.
        :raises BytesMissing: its row exists, but its bytes are gone.
        """
        if not self.may_repeat(upload, start, stop):
            return False
        if upload.last_digest is not None or upload.blob is None:
            return digest == upload.last_digest
        try:
            stored = stored_digest(self._storage, upload.blob, "sha256", start)
        except BytesMissing:
            self._expiry.current(upload.id)
            raise
        return digest == stored

    # -- claims --------------------------------------------------------------------

    def take_over(self, upload: Upload) -> Upload:
        """Increment the fence of an open upload; the next append begins at its offset.

        :raises UnknownUpload: it was terminated concurrently.
        """
        taken = self._repository.take_over(upload.id)
        if taken is None:
            return self._expiry.current(upload.id)
        self._readers.interrupt(upload.id)
        return taken

    def claim(
        self,
        upload: Upload,
        start: int,
        mine: Reader | None = None,
        expected_fence: int | None = None,
    ) -> Upload:
        """Claim the upload for an append at ``start``.

        :param mine: the reader of this request's body.
        :param expected_fence: the row must still have it; ``None``: any.
        :raises OffsetMismatch, AlreadyComplete: its offset is not ``start``.
        :raises Superseded: a later request has claimed it.
        """
        self._expiry.require_live(upload)
        if mine is not None and mine.interrupted:
            # A later request has interrupted this one and has claimed the upload.
            raise Superseded(self._expiry.current(upload.id).offset, start)
        claimed = self._repository.claim(upload.id, start, expected_fence)
        if claimed is None:
            current = self._expiry.current(upload.id)
            is_open = current.status is Status.UPLOADING
            if expected_fence is not None and is_open and current.offset == start:
                raise Superseded(start, start)
            raise refused_offset(current, start)
        # The claim has superseded requests that still wait for their clients.
        self._readers.interrupt(upload.id, but=mine)
        return claimed

    # -- inside --------------------------------------------------------------------

    def _stream_writer(
        self, upload: Upload, finishing: bool, claim: Claim | None = None
    ) -> StreamWriter:
        maker = self._record_maker(upload) if finishing else None
        return StreamWriter(
            upload, self._ports, finishing=finishing, make_record=maker, claim=claim
        )

    def _stream(
        self, writer: StreamWriter, stop: int | None, reader: Reader, exact: bool
    ) -> Upload:
        upload_id, start = writer.claimed.id, writer.claimed.offset
        with self.writing(writer), self._readers.register(upload_id, reader):
            writer.stream(reader, stop)
            if not writer.is_claimed:
                self._readers.interrupt(upload_id, but=reader)
        if exact and stop is not None and writer.committed < stop:
            raise ChunkSizeMismatch(writer.committed - start, stop - start)
        if writer.upload.is_complete:
            self._completer.announce(writer.upload)
        return self._received(writer.upload)

    def _received(self, upload: Upload) -> Upload:
        # Another request may have declared the length: read the row again.
        return upload if upload.length is not None else self._expiry.current(upload.id)

    def _record_maker(self, upload: Upload) -> Callable[[], CompletionRecord] | None:
        """Makes the completion record, if one commit may complete the upload."""
        if upload.offset or upload.reserved is not None:
            # The quota and the row must change in one transaction, and this commit
            # has none for the quota.
            return None
        if not self._completer.may_finish_first(upload):
            return None
        return partial(self._completer.record_for, upload)

    @contextmanager
    def writing(self, writer: Writer) -> Iterator[Writer]:
        """Use a writer, so that no failure leaves stray bytes or a stuck upload.

        :raises UnknownUpload, UploadExpired, Superseded: the writer failed because of
            this concurrent change of the upload.
        """
        old_offset = writer.committed
        try:
            try:
                with writer:
                    yield writer
            finally:
                # Progress is announced before completion or removal.
                if writer.committed > old_offset:
                    self._announce_progress(writer)
        except ChunkedUploadError as error:
            # The commit may have begun completion: let other requests continue it.
            release(self._repository, writer.upload)
            if writer.refused:
                self._remover.refuse(writer.upload)
            elif isinstance(error, Superseded | StorageError | BodyInterrupted):
                self._translate_failure(writer, error)
            raise

    def _announce_progress(self, writer: UploadWriter) -> None:
        if not self._gate.is_heard("chunk_received", writer.claimed):
            return
        now = replace(
            writer.claimed,
            offset=writer.committed,
            last_activity_at=self._ports.clock(),
        )
        self._gate.announce("chunk_received", now)

    def _translate_failure(self, writer: UploadWriter, error: Exception) -> None:
        """Raise the error that says that the upload was removed or taken over.

        If the upload is gone, delete the writer's bytes.
        """
        row = self._repository.get((claimed := writer.claimed).id)
        if row is not None and row.status is not Status.EXPIRED:
            # A later request may have ended this request's body or closed its file.
            mine = (writer.upload.fence, writer.committed)
            is_anothers = writer.interrupted or (row.fence, row.offset) != mine
            if is_anothers and not isinstance(error, Superseded):
                if writer.is_claimed or row.status is Status.UPLOADING:
                    raise Superseded(row.offset, claimed.offset) from error
                raise refused_offset(row, claimed.offset) from error
            return
        self._remover.delete_bytes(claimed)
        if row is not None and row.status is Status.EXPIRED:
            raise UploadExpired() from error
        raise UnknownUpload() from error


def refused_offset(upload: Upload, start: int) -> ChunkedUploadError:
    """The error for a chunk at ``start`` that the upload's row does not allow."""
    if upload.status is Status.COMPLETE:
        return AlreadyComplete()
    return OffsetMismatch(expected=upload.offset, provided=start)
