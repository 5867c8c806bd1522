"""Completes uploads, in steps that a request can repeat after a crash."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from ..exceptions import (
    BytesMissing,
    ChecksumMismatch,
    ChunkedUploadError,
    CompletionInProgress,
    DatabaseUnavailable,
    FinalUpload,
    Incomplete,
    StorageError,
    UnknownUpload,
    UploadExpired,
)
from ..storage.base import Blob, Storage
from .digests import resume
from .gate import Action, Gate, Kind, kind_of, require
from .ports import Ports
from .records import Completion, CompletionRecord, ExpectedDigest, Upload
from .remove import Remover
from .states import Status
from .verification import STALE, released_by_failure, renewed, wait

logger = logging.getLogger("flask_chunked")

#: Bytes that one read takes when a digest is computed from the storage.
READ_SIZE = 2**20
#: Attempts of a completion that races with others.
ATTEMPTS = 5
#: Another request may repeat a delivery that is not done after so long.
DELIVERY_LEASE = timedelta(seconds=60)


class Completer:
    """Completes uploads and delivers their events."""

    def __init__(self, ports: Ports, remover: Remover) -> None:
        self._repository = ports.repository
        self._storage = ports.storage
        self._gate = Gate(ports.policy, ports.storage)
        self._clock = ports.clock
        self._new_id = ports.new_id
        self._remover = remover

    # -- on request ----------------------------------------------------------------

    def request(self, upload: Upload, expected: ExpectedDigest | None) -> Completion:
        """Complete the upload on a client's request; a repeat gets the same result.

        :param expected: the client's digest; ``None``: compare nothing.
        :raises Incomplete: bytes are missing.
        :raises ChecksumMismatch: the digest differs; nothing changed.
        :raises FinalUpload: its members complete a final upload, no request does.
        :raises CompletionInProgress: another request is verifying the upload.
        """
        require(upload, Action.COMPLETE)
        if expected is None and kind_of(upload) is Kind.FINAL:
            # A request for a final upload can only compare a checksum.
            raise FinalUpload()
        return self.complete(upload, expected)

    def complete(self, upload: Upload, expected: ExpectedDigest | None) -> Completion:
        """:meth:`request`, for final uploads too."""
        completed = self._complete_at_once(upload, expected)
        if completed is not None:
            return completed
        digest: str | None = None
        for _ in range(ATTEMPTS):
            begun = self._begin(upload)
            if begun is None:
                done = self._require_complete(upload.id)
                if done is None:
                    continue
                self._compare_stored(done, expected)
                return Completion(done, completed_now=False)
            with released_by_failure(self._repository, begun):
                if digest is None and expected is not None:
                    digest = self._checked_digest(begun, expected)
                finished = self._finish(begun, digest)
            if finished is not None:
                return finished
        # Racing completions with wrong digests win each time; the client may retry.
        raise DatabaseUnavailable()

    def wait(self, upload: Upload) -> Completion:
        """Wait a few seconds for the request that is verifying the upload.

        If that request fails, this one completes the upload.

        :raises CompletionInProgress: that request is still verifying it.
        """
        return self._wait_for_other(upload) or self.complete(upload, None)

    def _wait_for_other(self, upload: Upload) -> Completion | None:
        for _ in wait():
            row = self._require_present(upload.id)
            if row.is_complete:
                return Completion(row, completed_now=False)
            if not self._is_being_verified(row):
                return None
        raise CompletionInProgress()

    def _begin(self, upload: Upload) -> Upload | None:
        now = self._clock()
        stale = now - STALE if self._gate.verifies(upload) else None
        return self._repository.begin_completion(upload.id, now, stale)

    def _is_being_verified(self, row: Upload) -> bool:
        started = row.verify_started_at
        if row.status is not Status.COMPLETING or started is None:
            return False
        return started > self._clock() - STALE

    def finish(self, begun: Upload) -> Completion:
        """Continue the completion that an append of this request began."""
        with released_by_failure(self._repository, begun):
            finished = self._finish(begun, None)
        return finished or self.complete(begun, None)

    def may_finish_first(self, upload: Upload) -> bool:
        """True if the file may be finished before its row is complete.

        No hook may run between the two steps.
        """
        return (
            self._storage.finishes_first
            and not self._gate.verifies(upload)
            # The bytes of finished uploads are counted in their own transaction.
            and not self._gate.counts_stored
            # The completion of a partial upload may lead to that of waiting finals.
            and not upload.partial
        )

    def record_for(self, upload: Upload, digest: str | None = None) -> CompletionRecord:
        """The values that complete the upload's row."""
        # A partial upload is no file, so it has no event to deliver.
        event_id = None if upload.partial else self._new_id()
        delivered = event_id is not None and not self._gate.delivers(upload)
        return CompletionRecord(event_id, delivered, digest)

    def announce(self, done: Upload) -> None:
        """Send the signal of a complete upload, deliver it, remove its members."""
        self._gate.announce("completed", done)
        if done.event_id is not None and done.delivered_at is None:
            self.deliver(done)
        if kind_of(done) is Kind.FINAL:
            self._remover.drop(self._remover.members_of(done))

    def _complete_at_once(
        self, seen: Upload, expected: ExpectedDigest | None
    ) -> Completion | None:
        """Finish the file, then complete the row with one compare-and-set.

        Between the two steps, other requests see an upload that has all bytes and can
        be completed.

        :return: ``None``: not possible, so complete it step by step.
        """
        if not 0 < seen.offset == seen.length or not self.may_finish_first(seen):
            return None
        if seen.status is not Status.UPLOADING:
            return None
        digest: str | None = None
        if expected is not None:
            digest = self._received_digest(seen, expected.name)
            if digest is None:
                return None
            if not same_digest(digest, expected.hexdigest):
                raise ChecksumMismatch()
            digest = stored_form(expected.name, digest)
        try:
            self._finalize(seen)
        except BytesMissing:
            return None
        record = self.record_for(seen, digest)
        done = self._repository.finish(seen, record, self._clock())
        if done is None:
            return None
        self.announce(done)
        return Completion(done, completed_now=True)

    def deliver(self, upload: Upload, lease: timedelta = DELIVERY_LEASE) -> bool:
        """Deliver the completion event.

        :param lease: repeat a delivery that began longer ago and is not done.
        :return: ``False``: not pending, delivered by another request, or failed.
        """
        now = self._clock()
        claimed = self._repository.claim_delivery(upload.id, now, now - lease)
        if claimed is None:
            return False
        try:
            self._gate.deliver(claimed)
        # After any error of the application, the event stays pending. The client gets
        # no error, because its file is complete.
        except Exception:
            logger.exception("deliver failed for upload %s; still pending", upload.id)
            return False
        self._repository.mark_delivered(upload.id, self._clock())
        return True

    def deliver_pending(self, older_than: timedelta) -> Iterator[tuple[Upload, bool]]:
        """Deliver events that are pending for longer; yield each with its success."""
        for upload in self._repository.undelivered(self._clock() - older_than):
            yield upload, self.deliver(upload, older_than)

    def _finish(self, begun: Upload, digest: str | None) -> Completion | None:
        """The steps after the digest; ``None``: another completion interfered."""
        try:
            self._finalize(begun)
        except BytesMissing:
            # If the upload was terminated concurrently, raise that instead.
            self._require_present(begun.id)
            raise
        self._verify(begun)
        record = self.record_for(begun, digest)
        done = self._repository.complete(begun.id, record, self._clock())
        if done is not None:
            self.announce(done)
            return Completion(done, completed_now=True)
        row = self._require_present(begun.id)
        if self._is_being_verified(row):
            raise CompletionInProgress()
        return Completion(row, completed_now=False) if row.is_complete else None

    def _finalize(self, begun: Upload) -> None:
        blob = begun.require_blob()
        if self._storage.keeps_parts:
            blob = replace(blob, parts=tuple(self._repository.parts(begun.id)))
        self._storage.finalize(blob)

    def _verify(self, begun: Upload) -> None:
        if not self._gate.verifies(begun):
            return
        try:
            with renewed(self._repository, begun, self._clock):
                self._gate.verify(begun)
        except ChunkedUploadError:
            self._repository.refuse_completion(begun.id, begun.fence)
            raise

    def _checked_digest(self, begun: Upload, expected: ExpectedDigest) -> str:
        digest = self._received_digest(begun, expected.name)
        if digest is None:
            try:
                if not self._storage.reads_unfinished:
                    # Completion finalizes it again after the comparison.
                    self._finalize(begun)
                digest = self._digest(begun, expected.name)
            except BytesMissing:
                self._require_present(begun.id)
                raise
        if not same_digest(digest, expected.hexdigest):
            self._repository.refuse_completion(begun.id, begun.fence)
            raise ChecksumMismatch()
        return stored_form(expected.name, digest)

    def _received_digest(self, begun: Upload, name: str) -> str | None:
        """The digest that was computed while the bytes arrived, if there is one."""
        if begun.hash_name != name or begun.hash_state is None:
            return None
        digest = resume(name, begun.hash_state, begun.offset)
        return None if digest is None else digest.hexdigest()

    def _compare_stored(self, done: Upload, expected: ExpectedDigest | None) -> None:
        if expected is None:
            return
        name, _, digest = (done.digest or "").partition(":")
        if name != expected.name:
            if done.blob is None:
                # The application moved the file away, so there is nothing to compare.
                return
            digest = self._digest(done, expected.name)
        if not same_digest(digest, expected.hexdigest):
            raise ChecksumMismatch()

    def _digest(self, upload: Upload, name: str) -> str:
        return stored_digest(self._storage, upload.require_blob(), name)

    def _require_complete(self, upload_id: UUID) -> Upload | None:
        """The upload, if another request has completed it.

        :return: ``None``: that request has failed, so this one may try again.
        """
        row = self._require_present(upload_id)
        if self._is_being_verified(row):
            raise CompletionInProgress()
        if row.is_complete:
            return row
        if row.offset != row.length:
            raise Incomplete(row.offset, row.length)
        return None

    def _require_present(self, upload_id: UUID) -> Upload:
        row = self._repository.get(upload_id)
        if row is None or row.status is Status.TERMINATING:
            raise UnknownUpload()
        if row.status is Status.EXPIRED:
            raise UploadExpired()
        return row


def stored_digest(storage: Storage, blob: Blob, name: str, start: int = 0) -> str:
    """Hex digest of the stored bytes from ``start`` up to the blob's size.

    :raises BytesMissing: the bytes are gone.
    :raises StorageError: the bytes cannot be read.
    """
    hasher = hashlib.new(name)
    buffer = memoryview(bytearray(READ_SIZE))
    left = blob.size - start
    try:
        with storage.open(blob) as reader:
            reader.seek(start)
            readinto: Callable[[memoryview], int | None] = reader.readinto  # type: ignore[attr-defined]
            while count := readinto(buffer[:left]):
                hasher.update(buffer[:count])
                left -= count
    except OSError as error:
        # A storage's reader raises OSError, as a file does.
        if isinstance(error.__cause__, BytesMissing):
            # The bytes were removed during the read; the row says why.
            raise BytesMissing() from error
        raise StorageError() from error
    return hasher.hexdigest()


def stored_form(name: str, hexdigest: str) -> str:
    """The digest of the whole file as a row stores it: ``name:hex``, lower case."""
    return f"{name}:{hexdigest}"


def same_digest(actual: str, provided: str) -> bool:
    """Compare hex digests in constant time, in upper or lower case."""
    return hmac.compare_digest(
        actual.lower().encode("ascii"),
        provided.strip().lower().encode("utf-8", "replace"),
    )
