"""The contract of :meth:`Appender.copy` for every storage; extends ``contract.py``."""

from __future__ import annotations

import random

import pytest

from flask_chunked.exceptions import BytesMissing
from flask_chunked.storage.base import Blob, Receipt, Storage

from .contract import append, commit, finish, new_blob, read

LARGE = random.Random(7).randbytes(5 * 2**20 + 3)


def finished(storage: Storage, content: bytes) -> Blob:
    """A source: the finished bytes of another upload."""
    return finish(storage, append(storage, new_blob(storage), content))


def copy(storage: Storage, blob: Blob, *pieces: tuple[Blob, int, int]) -> Blob:
    """Append pieces (source, start, count) in one section, and commit them."""
    with storage.appender(blob) as appender:
        with appender.exclusive():
            for source, start, count in pieces:
                appender.copy(source, start, count)
            receipt = appender.flush()
        return commit(blob, receipt, appender.position)


class CopyContract:
    """The suite; wants the fixture ``storage``."""

    @pytest.mark.parametrize("before", [b"", b"abc"], ids=["first", "later"])
    @pytest.mark.parametrize(
        ("start", "count"),
        [
            pytest.param(0, 6, id="whole"),
            pytest.param(0, 2, id="its-begin"),
            pytest.param(2, 3, id="its-middle"),
            pytest.param(4, 2, id="its-end"),
            pytest.param(5, 1, id="last-byte"),
            pytest.param(0, 0, id="nothing"),
            pytest.param(6, 0, id="nothing-at-its-end"),
        ],
    )
    def test_bytes_come_from_the_start_and_go_to_the_position(
        self, storage: Storage, before: bytes, start: int, count: int
    ) -> None:
        source = finished(storage, b"012345")
        blob = new_blob(storage)
        if before:
            blob = append(storage, blob, before)
        blob = copy(storage, blob, (source, start, count))
        assert blob.size == len(before) + count
        if blob.size:
            assert read(storage, blob) == before + b"012345"[start : start + count]
            assert storage.measure(blob) == blob.size
        assert read(storage, source) == b"012345"

    def test_pieces_and_blocks_follow_each_other(self, storage: Storage) -> None:
        a, b = finished(storage, b"abc"), finished(storage, b"de")
        blob = new_blob(storage)
        with storage.appender(blob) as appender:
            with appender.exclusive():
                appender.copy(b, 0, 2)
                appender.write(b"-")
                appender.copy(a, 0, 3)
                assert appender.position == 6
                blob = commit(blob, appender.flush(), 6)
            with appender.exclusive():
                appender.copy(b, 0, 2)
                appender.write(b".")
                blob = commit(blob, appender.flush(), appender.position)
            assert appender.head(100) == b"de-abcde."
        assert read(storage, blob) == b"de-abcde."
        assert read(storage, finish(storage, blob)) == b"de-abcde."

    def test_unfinished_bytes_can_be_copied(self, storage: Storage) -> None:
        source = append(storage, new_blob(storage), b"abc")
        append(storage, source, b"uncommitted")
        blob = copy(storage, new_blob(storage), (source, 0, 3))
        assert read(storage, blob) == b"abc"

    def test_copy_does_not_change_with_its_source(self, storage: Storage) -> None:
        source = append(storage, new_blob(storage), b"abc")
        blob = copy(storage, new_blob(storage), (source, 0, 3))
        source = append(storage, source, b"d")
        blob = append(storage, blob, b"e")
        assert (read(storage, source), read(storage, blob)) == (b"abcd", b"abce")
        storage.delete(source)
        assert read(storage, blob) == b"abce"

    @pytest.mark.parametrize("piece", [2**20, 2**21 + 7, len(LARGE)])
    def test_a_large_source_is_copied_in_several_calls(
        self, storage: Storage, piece: int
    ) -> None:
        source = finished(storage, LARGE)
        blob = append(storage, new_blob(storage), b"abc")
        for start in range(0, len(LARGE), piece):
            count = min(piece, len(LARGE) - start)
            blob = copy(storage, blob, (source, start, count))
        assert blob.size == 3 + len(LARGE)
        if storage.reads_unfinished:
            assert read(storage, blob) == b"abc" + LARGE
        assert read(storage, finish(storage, blob)) == b"abc" + LARGE

    def test_the_state_is_that_of_the_receipt(self, storage: Storage) -> None:
        source = finished(storage, b"abc")
        blob = new_blob(storage)
        with storage.appender(blob) as appender:
            for size in (3, 6):
                with appender.exclusive():
                    appender.copy(source, 0, 3)
                    receipt = appender.flush()
                assert isinstance(receipt, Receipt)
                assert appender.position == size
                blob = commit(blob, receipt, size)
        blob = append(storage, blob, b"d")
        assert read(storage, blob) == b"abcabcd"

    # -- what a crash leaves -----------------------------------------------------------

    @pytest.mark.parametrize("flushed", [False, True])
    @pytest.mark.parametrize("before", [b"", b"abc"], ids=["first", "later"])
    def test_uncommitted_copy_is_truncated(
        self, storage: Storage, before: bytes, flushed: bool
    ) -> None:
        source = finished(storage, b"0123456789")
        blob = append(storage, new_blob(storage), before)
        with storage.appender(blob) as appender, appender.exclusive():
            appender.copy(source, 0, 10)
            if flushed:
                appender.flush()
        assert read(storage, blob) == before
        blob = copy(storage, blob, (source, 8, 2))
        assert read(storage, blob) == before + b"89"
        assert storage.measure(blob) == blob.size

    def test_copy_truncates_longer_uncommitted_bytes(self, storage: Storage) -> None:
        source = finished(storage, b"de")
        blob = append(storage, new_blob(storage), b"abc")
        append(storage, blob, b"a tail longer than what is copied")
        blob = copy(storage, blob, (source, 0, 2))
        assert storage.measure(blob) == 5
        assert read(storage, blob) == b"abcde"

    # -- what cannot be copied ---------------------------------------------------------

    @pytest.mark.parametrize(
        ("start", "count"), [(0, 7), (6, 1), (3, 4), (7, 0), (2**40, 1), (0, 2**62)]
    )
    def test_a_source_that_is_too_short_is_refused(
        self, storage: Storage, start: int, count: int
    ) -> None:
        source = finished(storage, b"012345")
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as appender, appender.exclusive():
            with pytest.raises(BytesMissing):
                appender.copy(source, start, count)
            assert appender.position == 3
            # Nothing of it is there, and the appender goes on.
            appender.copy(source, 0, 1)
            blob = commit(blob, appender.flush(), appender.position)
        assert read(storage, blob) == b"abc0"

    @pytest.mark.parametrize("stored", [None, b"01"], ids=["missing", "too-short"])
    @pytest.mark.parametrize("before", [b"", b"abc"], ids=["first", "later"])
    def test_a_source_whose_bytes_are_gone_is_refused(
        self, storage: Storage, before: bytes, stored: bytes | None
    ) -> None:
        source = new_blob(storage)
        if stored is not None:
            append(storage, source, stored)
        lost = Blob(source.key, 6)
        blob = append(storage, new_blob(storage), before)
        with storage.appender(blob) as appender, appender.exclusive():
            with pytest.raises(BytesMissing):
                appender.copy(lost, 0, 1)
            assert appender.position == len(before)
        assert read(storage, blob) == before
        assert (storage.measure(blob) or 0) == len(before)

    def test_source_deleted_during_a_copy_is_missing(self, storage: Storage) -> None:
        source = finished(storage, b"012345")
        blob = copy(storage, new_blob(storage), (source, 0, 3))
        storage.delete(source)
        with pytest.raises(BytesMissing):
            copy(storage, blob, (source, 3, 3))
        assert read(storage, blob) == b"012"

    def test_copies_are_made_inside_a_section_only(self, storage: Storage) -> None:
        source = finished(storage, b"abc")
        with storage.appender(new_blob(storage)) as appender:
            with pytest.raises(RuntimeError):
                appender.copy(source, 0, 3)
            with appender.exclusive():
                pass
            with pytest.raises(RuntimeError):
                appender.copy(source, 0, 3)
            assert appender.position == 0

    def test_copies_into_a_finished_file_are_refused(self, storage: Storage) -> None:
        if not getattr(self, "locks", True):
            pytest.skip("only the row says what is finished on this storage")
        source = finished(storage, b"abc")
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as appender:
            with appender.exclusive():
                pass
            storage.finalize(blob)
            with pytest.raises(BytesMissing), appender.exclusive():
                appender.copy(source, 0, 3)
        assert read(storage, blob) == b"abc"
