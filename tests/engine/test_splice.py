"""The kernel pipe: its capacity, its ends, and systems without one."""

from __future__ import annotations

import fcntl
import os

import pytest

from flask_chunked.engine.splice import PIPE_SIZE, Pipe


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_bytes_go_from_the_inlet_to_the_outlet() -> None:
    pipe = Pipe()
    try:
        assert os.write(pipe.inlet, b"abc") == 3
        assert os.read(pipe.outlet, 10) == b"abc"
    finally:
        pipe.close()


def test_pipe_holds_its_size_without_a_reader() -> None:
    pipe = Pipe()
    try:
        os.set_blocking(pipe.inlet, False)
        assert os.write(pipe.inlet, bytes(PIPE_SIZE)) == PIPE_SIZE
    finally:
        pipe.close()


def test_child_processes_do_not_inherit_the_pipe() -> None:
    pipe = Pipe()
    try:
        assert not os.get_inheritable(pipe.inlet)
        assert not os.get_inheritable(pipe.outlet)
    finally:
        pipe.close()


def test_close_closes_both_ends() -> None:
    before = descriptors()
    pipe = Pipe()
    assert descriptors() == before + 2
    pipe.close()
    assert descriptors() == before


def test_pipe_that_cannot_grow_is_closed_and_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError("pipe-user-pages-soft")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    before = descriptors()
    assert Pipe.open() is None
    assert descriptors() == before


def test_without_descriptors_there_is_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> tuple[int, int]:
        raise OSError("too many open files")

    monkeypatch.setattr(os, "pipe2", refuse)
    assert Pipe.open() is None


@pytest.mark.parametrize("missing", ["os.pipe2", "fcntl.F_SETPIPE_SZ"])
def test_system_without_large_pipes_has_none(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delattr(missing)
    before = descriptors()
    assert Pipe.open() is None
    assert descriptors() == before
