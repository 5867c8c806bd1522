"""Locks of the local storage between processes and threads, and what races do."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    BytesMissing,
    StorageBusy,
)
from flask_chunked.storage.base import Blob, StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local import files as local_files
from flask_chunked.storage.local import lock as local_lock

from ..contract import append, new_blob, read, take

PROLOGUE = """
import os, resource, sys
from flask_chunked.exceptions import *
from flask_chunked.storage.base import *
from flask_chunked.storage.local import *
storage = LocalStorage(StorageSettings(sys.argv[1], path="up/%Y/%m/%d"))
blob = Blob(sys.argv[2], int(sys.argv[3]))
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""


HOLD = """
appender = storage.appender(blob)
with appender.exclusive():
    appender.write(b"never committed")
    ready()
"""


STAGE = """
stage = storage.stage()
stage.write(b"orphaned")
ready()
"""


FINALIZE = """
ready()
storage.finalize(blob)
"""


LIMITED = """
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
with storage.appender(blob) as appender, appender.exclusive():
    try:
        appender.write(b"x" * 200)
    except StorageFull as error:
        assert isinstance(error.__cause__, OSError)
    else:
        raise SystemExit("no error")
    assert appender.position == 3 and appender.head(9) == b"abc"
ready()
"""


Spawn = Callable[[str, Blob], "subprocess.Popen[str]"]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start a process and wait until it says that it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, blob: Blob) -> subprocess.Popen[str]:
        arguments = [str(tmp_path), blob.key, str(blob.size)]
        process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def impatient(tmp_path: Path) -> tuple[LocalStorage, list[float]]:
    """A storage whose clock runs only while it sleeps, and how long it slept."""
    slept: list[float] = []
    storage = LocalStorage(
        StorageSettings(str(tmp_path), path="up/%Y/%m/%d"),
        clock=lambda: sum(slept),
        sleep=slept.append,
    )
    return storage, slept


def test_lock_of_a_living_process_is_waited_for(
    tmp_path: Path, storage: LocalStorage, spawn: Spawn
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    spawn(HOLD, blob)
    waiting, slept = impatient(tmp_path)
    with pytest.raises(StorageBusy):
        append(waiting, blob, b"def")
    assert 5 <= sum(slept) < 5.1
    assert slept[:3] == [0.001, 0.002, 0.004]
    assert max(slept) == 0.02
    with pytest.raises(StorageBusy):
        waiting.finalize(blob)


def test_lock_of_a_killed_process_is_free(storage: LocalStorage, spawn: Spawn) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    process = spawn(HOLD, blob)
    process.kill()
    process.wait()
    assert storage.measure(blob) == 18
    assert read(storage, append(storage, blob, b"def")) == b"abcdef"


def test_delete_waits_no_longer_than_the_lock_timeout(
    tmp_path: Path, storage: LocalStorage, spawn: Spawn
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    spawn(HOLD, blob)
    waiting, slept = impatient(tmp_path)
    waiting.delete(blob)
    assert sum(slept) >= 5
    assert storage.measure(blob) is None


def test_stage_is_discarded_once_its_owner_is_dead(
    storage: LocalStorage, spawn: Spawn
) -> None:
    process = spawn(STAGE, new_blob(storage))
    (item,) = storage.stored()
    assert item.staged
    assert not storage.discard(item)
    process.kill()
    process.wait()
    assert storage.discard(item)
    assert list(storage.stored()) == []
    assert storage.discard(item)


def test_file_size_limit_is_a_full_storage(storage: LocalStorage, spawn: Spawn) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    process = spawn(LIMITED, blob)
    process.communicate("go\n")
    assert process.returncode == 0
    assert storage.measure(blob) == 3


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_racing_finalizers_both_succeed(
    storage: LocalStorage, spawn: Spawn, content: bytes
) -> None:
    for _ in range(2):
        blob = new_blob(storage)
        if content:
            blob = append(storage, blob, content)
        racers = [spawn(FINALIZE, blob) for _ in range(2)]
        for process in racers:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        storage.finalize(blob)
        assert [process.wait() for process in racers] == [0, 0]
        assert storage.path(blob).read_bytes() == content


def run_all(*functions: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_sections_exclude_each_other_through_a_take_over(
    storage: LocalStorage,
) -> None:
    blob = new_blob(storage)
    inside: list[int] = []

    def work() -> None:
        for _ in range(20):
            with storage.stage() as stage, storage.appender(blob) as appender:
                stage.write(b"abc")
                with appender.exclusive():
                    inside.append(1)
                    assert len(inside) == 1
                    appender.take(stage)
                    appender.flush()
                    assert storage.measure(blob) == 3
                    inside.pop()

    run_all(*[work] * 4)
    assert not any(item.staged for item in storage.stored())


def test_deletes_race_writers_in_one_directory(storage: LocalStorage) -> None:
    def work() -> None:
        for count in range(30):
            blob = new_blob(storage)
            blob = (append, take)[count % 2](storage, blob, b"abc")
            assert read(storage, blob) == b"abc"
            storage.delete(blob)

    run_all(*[work] * 4)
    assert list(storage.stored()) == []


def test_delete_races_one_writer_of_its_key(storage: LocalStorage) -> None:
    blobs = [new_blob(storage) for _ in range(40)]

    def write() -> None:
        for blob in blobs:
            with storage.stage() as stage, storage.appender(blob) as appender:
                stage.write(b"abc")
                with appender.exclusive():
                    appender.take(stage)
                    appender.flush()

    def delete() -> None:
        for blob in blobs:
            storage.delete(blob)

    run_all(write, delete, delete)
    for blob in blobs:
        assert storage.measure(blob) in (None, 3)
        storage.delete(blob)
    assert list(storage.stored()) == []


def test_delete_races_finalize_and_wins(storage: LocalStorage) -> None:
    blobs = [append(storage, new_blob(storage), b"abc") for _ in range(40)]

    def complete() -> None:
        for blob in blobs:
            try:
                storage.finalize(blob)
            except BytesMissing:
                continue

    def delete() -> None:
        for blob in blobs:
            storage.delete(blob)

    run_all(complete, delete)
    assert list(storage.stored()) == []


@pytest.mark.parametrize("found", ["locked", "gone"])
def test_new_file_that_discard_took_for_an_orphan_is_not_written(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    blob = replace(new_blob(storage), size=3)
    lock = local_files.try_lock

    def sleep_before(fd: int) -> bool:
        monkeypatch.setattr(local_lock, "try_lock", lock)
        (item,) = storage.stored()
        if found == "gone":
            assert storage.discard(item)
            return lock(fd)
        return False

    monkeypatch.setattr(local_lock, "try_lock", sleep_before)
    with pytest.raises(StorageBusy):
        storage.put(blob, b"abc", finished=True)
    assert list(storage.stored()) == []
    with storage.put(blob, b"abc", finished=True):
        pass
    assert read(storage, blob) == b"abc"
