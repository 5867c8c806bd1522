"""What every storage must keep, whatever its medium; subclassed for each of them.

A subclass provides the fixture ``storage``: new, empty, and without patience for locks.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import ClassVar
from uuid import UUID, uuid4

import pytest

from flask_chunked.engine.gate import MAX_LENGTH
from flask_chunked.exceptions import (
    BytesMissing,
    NotLocal,
    StorageBusy,
    StorageError,
    StorageFull,
)
from flask_chunked.storage.base import Blob, Receipt, Stage, Storage

CREATED = datetime(2026, 11, 23, 12, 30, tzinfo=timezone.utc)


def new_blob(storage: Storage) -> Blob:
    return Blob(storage.new_key(uuid4(), CREATED), 0)


def commit(blob: Blob, receipt: Receipt, size: int) -> Blob:
    return Blob(blob.key, size, receipt.state, (*blob.parts, *receipt.parts))


def append(storage: Storage, blob: Blob, *blocks: bytes) -> Blob:
    """Append the blocks in one section; the blob as its row knows it afterwards."""
    with storage.appender(blob) as appender:
        with appender.exclusive():
            for block in blocks:
                appender.write(block)
            receipt = appender.flush()
        return commit(blob, receipt, appender.position)


def take(storage: Storage, blob: Blob, content: bytes) -> Blob:
    with storage.stage() as stage, storage.appender(blob) as appender:
        stage.write(content)
        with appender.exclusive():
            appender.take(stage)
            receipt = appender.flush()
        return commit(blob, receipt, appender.position)


def finish(storage: Storage, blob: Blob) -> Blob:
    return commit(blob, storage.finalize(blob), blob.size)


def read(storage: Storage, blob: Blob) -> bytes:
    with storage.open(blob) as reader:
        return reader.read()


class StorageContract:
    """The suite.

    ``local``: has paths. ``locks``: keeps two writers apart, by itself.
    ``lists_stages``: a stage of a dead process remains and is listed.
    ``appends_in_place``: uncommitted bytes follow the committed ones in one file.
    """

    local: ClassVar[bool] = False
    locks: ClassVar[bool] = True
    lists_stages: ClassVar[bool] = True
    appends_in_place: ClassVar[bool] = True

    # -- keys --------------------------------------------------------------------------

    def test_key_depends_on_id_and_time_alone(self, storage: Storage) -> None:
        upload_id = uuid4()
        assert storage.new_key(upload_id, CREATED) == storage.new_key(
            UUID(str(upload_id)), CREATED
        )
        assert storage.new_key(upload_id, CREATED) != storage.new_key(uuid4(), CREATED)

    def test_key_uses_the_time_in_utc(self, storage: Storage) -> None:
        upload_id = uuid4()
        elsewhere = CREATED.astimezone(timezone(timedelta(hours=14)))
        assert storage.new_key(upload_id, elsewhere) == storage.new_key(
            upload_id, CREATED
        )

    def test_identity_is_a_stable_text(self, storage: Storage) -> None:
        assert storage.identity
        assert storage.identity == storage.identity

    # -- lengths -----------------------------------------------------------------------

    @pytest.mark.parametrize("length", [None, 0, 1, 100 * 2**30])
    def test_an_upload_may_become_as_long_as_it_was_declared(
        self, storage: Storage, length: int | None
    ) -> None:
        most = storage.max_length()
        limit = storage.max_length(storage.new_state(length))
        if most is None:
            assert limit is None
            return
        assert limit is not None
        assert (length or 1) <= limit <= most

    def test_the_largest_length_is_taken_and_no_larger_one(
        self, storage: Storage
    ) -> None:
        most = storage.max_length()
        if most is None:
            storage.new_state(MAX_LENGTH)
            return
        assert storage.max_length(storage.new_state(most)) == most
        with pytest.raises(StorageFull):
            storage.new_state(most + 1)

    # -- append ------------------------------------------------------------------------

    def test_appender_alone_creates_nothing(self, storage: Storage) -> None:
        blob = new_blob(storage)
        storage.appender(blob).close()
        assert storage.measure(blob) is None
        assert list(storage.stored()) == []

    def test_blocks_follow_each_other(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc", b"", b"def")
        assert blob.size == 6
        assert read(storage, blob) == b"abcdef"

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer_is_written(
        self, storage: Storage, kind: type[bytes | bytearray | memoryview]
    ) -> None:
        blob = new_blob(storage)
        with storage.appender(blob) as appender, appender.exclusive():
            appender.write(kind(b"abc"))
            blob = commit(blob, appender.flush(), appender.position)
        assert read(storage, blob) == b"abc"

    def test_one_appender_writes_several_sections(self, storage: Storage) -> None:
        blob = new_blob(storage)
        with storage.appender(blob) as appender:
            for block in (b"ab", b"cd", b"ef"):
                with appender.exclusive():
                    appender.write(block)
                    receipt = appender.flush()
                blob = commit(blob, receipt, appender.position)
                assert read(storage, blob) == b"abcdef"[: blob.size]

    def test_next_appender_continues_at_the_committed_size(
        self, storage: Storage
    ) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as appender:
            assert appender.position == 3
        assert read(storage, append(storage, blob, b"def")) == b"abcdef"

    def test_next_write_truncates_uncommitted_bytes(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        append(storage, blob, b"never committed")
        blob = append(storage, blob, b"de")
        assert read(storage, blob) == b"abcde"
        assert storage.measure(blob) == 5

    def test_rewind_removes_the_bytes_after_the_position(
        self, storage: Storage
    ) -> None:
        if not storage.writes_ahead:
            pytest.skip("this storage takes chunks whole only")
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as appender:
            with appender.exclusive():
                appender.write(b"never committed")
                appender.rewind(3)
                assert (appender.position, storage.measure(blob)) == (3, 3)
            with appender.exclusive():
                appender.write(b"de")
                blob = commit(blob, appender.flush(), appender.position)
        assert read(storage, blob) == b"abcde"

    def test_uncommitted_bytes_at_the_start_are_truncated(
        self, storage: Storage
    ) -> None:
        blob = new_blob(storage)
        append(storage, blob, b"never committed")
        assert read(storage, append(storage, blob, b"ab")) == b"ab"

    def test_failed_commit_truncates_the_bytes_of_its_section(
        self, storage: Storage
    ) -> None:
        blob = new_blob(storage)
        for content, left in ((b"", None), (b"abc", 3)):
            blob = append(storage, blob, content) if content else blob
            with storage.appender(blob) as appender, appender.exclusive():
                if not appender.at_end_of_file():
                    pytest.skip("this storage leaves nothing to the commit")
                appender.write(b"def")
                appender.flush()
                appender.rollback()
                assert appender.position == blob.size
            assert storage.measure(blob) == left
        assert read(storage, append(storage, blob, b"ghi")) == b"abcghi"

    def test_commit_keeps_the_bytes_of_its_section(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as appender, appender.exclusive():
            appender.at_end_of_file()
            appender.write(b"def")
            receipt = appender.flush()
            appender.committed()
        assert read(storage, commit(blob, receipt, 6)) == b"abcdef"

    def test_position_before_uncommitted_bytes_is_not_the_end(
        self, storage: Storage
    ) -> None:
        blob = new_blob(storage)
        append(storage, blob, b"tail")
        with storage.appender(blob) as appender, appender.exclusive():
            assert not appender.at_end_of_file()

    @pytest.mark.parametrize("finished", [True, False])
    def test_put_stores_bytes_at_once(self, storage: Storage, finished: bool) -> None:
        blob = replace(new_blob(storage), size=3)
        self._require_finishing(storage)
        with storage.put(blob, memoryview(b"abc"), finished=finished):
            pass
        assert read(storage, blob) == b"abc"
        assert [item.key for item in storage.stored()] == [blob.key]
        if not finished:
            blob = append(storage, blob, b"de")
        storage.finalize(blob)
        assert read(storage, blob) == (b"abc" if finished else b"abcde")

    def _require_finishing(self, storage: Storage) -> None:
        if not storage.finishes_first:
            pytest.skip("only the row says what is finished on this storage")

    @pytest.mark.parametrize("committed", [True, False])
    def test_finish_takes_effect_with_the_commit(
        self, storage: Storage, committed: bool
    ) -> None:
        self._require_finishing(storage)
        blob = new_blob(storage)
        with storage.appender(blob) as appender, appender.exclusive():
            assert appender.at_end_of_file()
            appender.write(b"abc")
            assert appender.finish()
            appender.flush()
            if committed:
                appender.committed()
            else:
                appender.rollback()
        items = [item.key for item in storage.stored()]
        assert items == ([blob.key] if committed else [])
        if committed:
            storage.finalize(replace(blob, size=3))
            assert read(storage, replace(blob, size=3)) == b"abc"
        else:
            blob = finish(storage, append(storage, blob, b"de"))
            assert read(storage, blob) == b"de"

    def test_later_section_keeps_the_finished_file(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        """Its commit had no answer, and may have happened."""
        self._require_finishing(storage)
        blob = new_blob(storage)
        with storage.appender(blob) as appender:
            with appender.exclusive():
                assert appender.at_end_of_file()
                appender.write(b"abc")
                assert appender.finish()
                appender.flush()
            with appender.exclusive():
                appender.flush()
                appender.rollback()
        storage.move(replace(blob, size=3), tmp_path / "moved")
        assert (tmp_path / "moved").read_bytes() == b"abc"

    def test_finish_needs_a_file_that_begins_in_the_section(
        self, storage: Storage
    ) -> None:
        self._require_finishing(storage)
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as appender, appender.exclusive():
            assert appender.at_end_of_file()
            appender.write(b"def")
            assert not appender.finish()

    @pytest.mark.parametrize("way", ["write", "take"])
    def test_next_write_removes_the_finished_file_of_a_dead_writer(
        self, storage: Storage, way: str
    ) -> None:
        self._require_finishing(storage)
        blob = new_blob(storage)
        # Of both names that such a writer leaves the other one may be lost.
        with storage.put(replace(blob, size=9), b"too early", finished=True):
            pass
        with storage.appender(blob) as appender:
            with appender.exclusive():
                assert not appender.at_end_of_file()
            with appender.exclusive(), storage.stage() as stage:
                if way == "write":
                    appender.write(b"abc")
                else:
                    stage.write(b"abc")
                    appender.take(stage)
                blob = commit(blob, appender.flush(), appender.position)
        assert read(storage, blob) == b"abc"
        assert storage.measure(blob) == 3
        blob = finish(storage, append(storage, blob, b"de"))
        assert read(storage, blob) == b"abcde"

    def test_end_at_position_counts_for_one_section(self, storage: Storage) -> None:
        blob = new_blob(storage)
        with storage.appender(blob) as appender:
            with appender.exclusive():
                appender.at_end_of_file()
                appender.write(b"abc")
            with appender.exclusive():
                appender.flush()
                appender.rollback()
            assert appender.position == 3

    def test_superseded_writer_finds_its_file_again(self, storage: Storage) -> None:
        blob = new_blob(storage)
        with storage.appender(blob) as slow:
            with slow.exclusive():
                pass
            committed = take(storage, blob, b"winner")
            with slow.exclusive():
                pass
        assert read(storage, committed) == b"winner"

    @pytest.mark.parametrize("method", ["write", "take", "flush"])
    def test_call_outside_a_section_is_refused(
        self, storage: Storage, method: str
    ) -> None:
        with (
            storage.appender(new_blob(storage)) as appender,
            storage.stage() as stage,
        ):
            with appender.exclusive():
                pass
            arguments: dict[str, tuple[bytes | Stage, ...]]
            arguments = {"write": (b"a",), "take": (stage,), "flush": ()}
            with pytest.raises(RuntimeError):
                getattr(appender, method)(*arguments[method])

    def test_sections_do_not_nest(self, storage: Storage) -> None:
        with storage.appender(new_blob(storage)) as appender, appender.exclusive():
            with pytest.raises(RuntimeError), appender.exclusive():
                pass
            appender.write(b"still inside")

    def test_second_writer_is_kept_out(self, storage: Storage) -> None:
        if not self.locks:
            pytest.skip("this storage needs no locks")
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as first, storage.appender(blob) as second:
            with first.exclusive(), pytest.raises(StorageBusy), second.exclusive():
                pass
            with second.exclusive():
                second.write(b"d")

    def test_section_ends_with_an_error_of_the_caller(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        with storage.appender(blob) as first, storage.appender(blob) as second:
            with pytest.raises(FileNotFoundError), first.exclusive():
                raise FileNotFoundError("the caller's own")
            with second.exclusive():
                second.write(b"d")

    @pytest.mark.parametrize("stored", [b"", b"ab"], ids=["nothing", "too few"])
    def test_missing_bytes_refuse_the_section(
        self, storage: Storage, stored: bytes
    ) -> None:
        blob = new_blob(storage)
        if stored:
            blob = append(storage, blob, stored)
        lost = Blob(blob.key, 9, blob.state)
        with (
            storage.appender(lost) as appender,
            pytest.raises(BytesMissing),
            appender.exclusive(),
        ):
            pass
        assert storage.measure(blob) == (len(stored) or None)

    def test_finished_and_deleted_files_take_no_more(self, storage: Storage) -> None:
        if not self.locks:
            pytest.skip("only the row says what is finished on this storage")
        for end in (storage.finalize, storage.delete):
            blob = append(storage, new_blob(storage), b"abc")
            with storage.appender(blob) as appender:
                with appender.exclusive():
                    pass
                end(blob)
                with pytest.raises(BytesMissing), appender.exclusive():
                    pass

    def test_closed_appender_is_refused(self, storage: Storage) -> None:
        appender = storage.appender(new_blob(storage))
        appender.close()
        appender.close()
        with pytest.raises(StorageError), appender.exclusive():
            pass

    # -- stages ------------------------------------------------------------------------

    @pytest.mark.parametrize("before", [b"", b"abc"], ids=["first", "later"])
    @pytest.mark.parametrize("chunk", [b"", b"x" * 300_000], ids=["empty", "full"])
    @pytest.mark.parametrize("tail", [b"", b"y" * 400_000], ids=["exact", "tail"])
    def test_stage_is_taken_whole(
        self, storage: Storage, before: bytes, chunk: bytes, tail: bytes
    ) -> None:
        blob = new_blob(storage)
        if before:
            blob = append(storage, blob, before)
        if tail:
            append(storage, blob, tail)
        blob = take(storage, blob, chunk)
        assert blob.size == len(before + chunk)
        assert read(storage, blob) == before + chunk
        # Nothing may be there where nothing was written.
        assert (storage.measure(blob) or 0) == blob.size
        assert not any(item.staged for item in storage.stored())

    def test_write_follows_a_taken_stage(self, storage: Storage) -> None:
        blob = new_blob(storage)
        with storage.stage() as stage, storage.appender(blob) as appender:
            assert stage.write(b"abc") == 3
            assert stage.write(memoryview(b"de")) == 2
            assert stage.size == 5
            with appender.exclusive():
                appender.take(stage)
                appender.write(b"fg")
                receipt = appender.flush()
            with appender.exclusive():
                appender.write(b"h")
                receipt = appender.flush()
            assert appender.position == 8
        assert read(storage, commit(blob, receipt, 8)) == b"abcdefgh"

    def test_taken_or_closed_stage_is_used_up(self, storage: Storage) -> None:
        with storage.stage() as stage, storage.appender(new_blob(storage)) as appender:
            stage.write(b"abc")
            with appender.exclusive():
                appender.take(stage)
                with pytest.raises(RuntimeError):
                    appender.take(stage)
                assert appender.position == 3
        with pytest.raises(RuntimeError):
            stage.write(b"d")

    def test_closed_stage_leaves_nothing(self, storage: Storage) -> None:
        stage = storage.stage()
        stage.write(b"abc")
        stage.close()
        stage.close()
        assert list(storage.stored()) == []

    def test_foreign_stage_is_refused(self, storage: Storage) -> None:
        class Foreign(Stage):
            size = 1

            def write(self, block: bytes | bytearray | memoryview) -> int:
                return 0

            def sha256(self) -> hashlib._Hash:
                return hashlib.sha256()

            def close(self) -> None:
                pass

        with (
            storage.appender(new_blob(storage)) as appender,
            appender.exclusive(),
            pytest.raises(TypeError),
        ):
            appender.take(Foreign())

    # -- head --------------------------------------------------------------------------

    def test_head_is_what_was_committed_and_written(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        append(storage, blob, b"tail")
        with storage.appender(blob) as appender:
            assert appender.head(2) == b"ab"
            assert appender.head(0) == b""
            with appender.exclusive():
                assert appender.head(100) == b"abc"
                appender.write(b"de")
                assert appender.head(4) == b"abcd"
                assert appender.head(100) == b"abcde"
                appender.flush()

    def test_head_of_nothing_is_empty(self, storage: Storage) -> None:
        with storage.appender(new_blob(storage)) as appender:
            assert appender.head(4096) == b""

    def test_head_of_missing_bytes_is_an_error(self, storage: Storage) -> None:
        lost = Blob(new_blob(storage).key, 5)
        with storage.appender(lost) as appender, pytest.raises(BytesMissing):
            appender.head(5)

    def test_head_shows_a_taken_stage(self, storage: Storage) -> None:
        with storage.stage() as stage, storage.appender(new_blob(storage)) as appender:
            stage.write(b"abc")
            with appender.exclusive():
                appender.take(stage)
                assert appender.head(10) == b"abc"

    # -- read --------------------------------------------------------------------------

    @pytest.mark.parametrize("finished", [False, True])
    def test_reader_seeks(self, storage: Storage, finished: bool) -> None:
        blob = append(storage, new_blob(storage), b"0123456789")
        if finished:
            blob = finish(storage, blob)
        with storage.open(blob) as reader:
            assert reader.seekable()
            assert reader.seek(4) == 4
            assert reader.read(3) == b"456"
            assert reader.tell() == 7
            assert reader.seek(-2, 2) == 8
            assert reader.read(100) == b"89"
            assert reader.read(100) == b""
            assert reader.seek(20) == 20
            assert reader.read(1) == b""

    def test_reader_ends_at_the_committed_size(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        with storage.open(blob) as reader:
            append(storage, blob, b"uncommitted")
            assert reader.read() == b"abc"
            assert reader.seek(0, 2) == 3
        assert read(storage, blob) == b"abc"

    @pytest.mark.parametrize("finished", [False, True])
    def test_reader_of_missing_bytes_is_an_error(
        self, storage: Storage, finished: bool
    ) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        if finished:
            blob = finish(storage, blob)
        for lost in (Blob(blob.key, 4, blob.state), Blob(new_blob(storage).key, 1)):
            with pytest.raises(BytesMissing):
                storage.open(lost)

    def test_empty_upload_reads_as_empty(self, storage: Storage) -> None:
        assert read(storage, new_blob(storage)) == b""

    # -- finalize ----------------------------------------------------------------------

    def test_finalize_twice_is_success(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        once = finish(storage, blob)
        finish(storage, blob)
        assert read(storage, finish(storage, once)) == b"abc"
        assert storage.measure(once) == 3

    def test_finalize_truncates_uncommitted_bytes(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        append(storage, blob, b"uncommitted")
        blob = finish(storage, blob)
        assert storage.measure(blob) == 3

    def test_finalize_of_an_empty_upload(self, storage: Storage) -> None:
        blob = finish(storage, new_blob(storage))
        assert storage.measure(blob) == 0
        assert read(storage, finish(storage, blob)) == b""

    @pytest.mark.parametrize("stored", [b"", b"ab"], ids=["nothing", "too few"])
    def test_finalize_of_missing_bytes_is_an_error(
        self, storage: Storage, stored: bytes
    ) -> None:
        blob = new_blob(storage)
        if stored:
            blob = append(storage, blob, stored)
        with pytest.raises(BytesMissing):
            storage.finalize(Blob(blob.key, 9, blob.state))

    def test_finalize_survives_a_superseded_writer(self, storage: Storage) -> None:
        blob = new_blob(storage)
        done = finish(storage, append(storage, blob, b"abc"))
        with storage.appender(blob) as stale, stale.exclusive():
            pass  # the writer saw in the row that it was superseded
        assert read(storage, done) == b"abc"
        done = finish(storage, done)
        assert read(storage, done) == b"abc"
        assert len(list(storage.stored())) == 1

    # -- delete, move, path ------------------------------------------------------------

    @pytest.mark.parametrize("finished", [False, True])
    def test_delete_removes_all_bytes(self, storage: Storage, finished: bool) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        if finished:
            blob = finish(storage, blob)
        other = append(storage, new_blob(storage), b"other")
        storage.delete(blob)
        storage.delete(blob)
        assert storage.measure(blob) is None
        assert read(storage, other) == b"other"
        storage.delete(other)
        assert list(storage.stored()) == []

    def test_key_can_be_written_after_a_delete(self, storage: Storage) -> None:
        blob = new_blob(storage)
        storage.delete(append(storage, blob, b"abc"))
        assert read(storage, append(storage, blob, b"de")) == b"de"

    def test_move_takes_the_file_out(self, storage: Storage, tmp_path: Path) -> None:
        blob = finish(storage, append(storage, new_blob(storage), b"abc"))
        target = tmp_path / "film.mp4"
        target.write_bytes(b"older")
        storage.move(blob, target)
        assert target.read_bytes() == b"abc"
        assert storage.measure(blob) is None
        storage.move(blob, str(target))
        assert target.read_bytes() == b"abc"
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [
            "film.mp4"
        ]

    def test_move_needs_a_finished_file(self, storage: Storage, tmp_path: Path) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        target = tmp_path / "film.mp4"
        target.write_bytes(b"xyz")  # as large, but not ours
        with pytest.raises(BytesMissing):
            storage.move(blob, target)
        assert target.read_bytes() == b"xyz"
        storage.delete(blob)
        with pytest.raises(BytesMissing):
            storage.move(blob, tmp_path / "other.mp4")

    def test_move_needs_a_directory(self, storage: Storage, tmp_path: Path) -> None:
        blob = finish(storage, append(storage, new_blob(storage), b"abc"))
        with pytest.raises(StorageError):
            storage.move(blob, tmp_path / "no" / "film.mp4")
        (tmp_path / "directory").mkdir()
        with pytest.raises(StorageError):
            storage.move(blob, tmp_path / "directory")
        assert read(storage, blob) == b"abc"

    def test_path_is_that_of_the_finished_file(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        if not self.local:
            with pytest.raises(NotLocal):
                storage.path(blob)
            return
        with pytest.raises(BytesMissing):
            storage.path(blob)
        blob = finish(storage, blob)
        path = storage.path(blob)
        assert path.is_absolute()
        assert path.read_bytes() == b"abc"

    # -- check -------------------------------------------------------------------------

    def test_measure_counts_uncommitted_bytes_and_cut_removes_them(
        self, storage: Storage
    ) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        append(storage, blob, b"tail")
        assert storage.measure(blob) == (7 if self.appends_in_place else 3)
        storage.truncate(blob)
        storage.truncate(blob)
        assert storage.measure(blob) == 3
        storage.truncate(finish(storage, blob))
        storage.truncate(new_blob(storage))

    def test_cut_of_missing_bytes_is_an_error(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        for lost in (Blob(blob.key, 4, blob.state), Blob(new_blob(storage).key, 1)):
            with pytest.raises(BytesMissing):
                storage.truncate(lost)
        assert storage.measure(blob) == 3

    def test_stored_lists_uploads_and_stages(self, storage: Storage) -> None:
        unfinished = append(storage, new_blob(storage), b"abc")
        finished = finish(storage, append(storage, new_blob(storage), b"defg"))
        with storage.stage() as stage:
            stage.write(b"hi")
            items = list(storage.stored())
        assert {(item.key, item.size) for item in items if not item.staged} == {
            (unfinished.key, 3),
            (finished.key, 4),
        }
        staged = [item.size for item in items if item.staged]
        assert staged == ([2] if self.lists_stages else [])
        assert all(item.modified_at.utcoffset() == timedelta(0) for item in items)

    def test_discard_removes_a_listed_upload(self, storage: Storage) -> None:
        append(storage, new_blob(storage), b"abc")
        finish(storage, append(storage, new_blob(storage), b"abc"))
        assert [storage.discard(item) for item in storage.stored()] == [True, True]
        assert list(storage.stored()) == []

    def test_discard_keeps_an_item_that_is_needed(self, storage: Storage) -> None:
        blob = append(storage, new_blob(storage), b"abc")
        for item in storage.stored():
            assert not storage.discard(item, lambda: True)
        assert read(storage, blob) == b"abc"

    @pytest.mark.parametrize("finished", [True, False])
    def test_discard_keeps_new_bytes_until_they_have_a_row(
        self, storage: Storage, finished: bool
    ) -> None:
        self._require_finishing(storage)
        blob = replace(new_blob(storage), size=3)
        with storage.put(blob, b"abc", finished=finished):
            (item,) = storage.stored()
            assert not storage.discard(item)
        assert read(storage, blob) == b"abc"
        assert storage.discard(item)
        assert list(storage.stored()) == []
        assert storage.discard(item)

    def test_discard_keeps_a_stage_whose_owner_lives(self, storage: Storage) -> None:
        if not self.lists_stages:
            pytest.skip("a stage of this storage leaves nothing")
        blob = new_blob(storage)
        with storage.stage() as stage, storage.appender(blob) as appender:
            stage.write(b"abc")
            (item,) = storage.stored()
            assert not storage.discard(item)
            with appender.exclusive():
                appender.take(stage)
                blob = commit(blob, appender.flush(), appender.position)
            assert storage.discard(item)  # no stage any more
        assert read(storage, blob) == b"abc"
