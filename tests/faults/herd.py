"""Forked children that report over a pipe and can be killed at any instruction.

For drivers: programs with one thread and without open database connections.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

#: A child that says nothing for so many seconds is stuck.
STUCK_AFTER = 30.0

Message = list[object]

_PR_SET_PDEATHSIG = 1


class Report:
    """The child's end: each message is on its way before the child goes on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, *message: object) -> None:
        """Send strings and numbers."""
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]


class Child:
    """The parent's end of a forked child.

    :param work: what the child does; its error becomes the message "error".
    """

    def __init__(self, work: Callable[[Report], None]) -> None:
        self._fd, theirs = os.pipe()
        sys.stdout.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._fd)
            _die_with(parent)
            # A collection would look at, and so copy, all that the parent has made.
            gc.freeze()
            _run(work, Report(theirs))
        os.close(theirs)
        os.set_blocking(self._fd, False)
        self._rest = b""
        self._is_closed = False
        self.status: int | None = None
        self.heard_at = time.monotonic()

    def messages(self) -> list[Message]:
        """What the child has sent since the last call."""
        data = self._rest
        while True:
            try:
                block = os.read(self._fd, 65536)
            except BlockingIOError:
                break
            if not block:
                self._is_closed = True
                break
            data += block
        *lines, self._rest = data.split(b"\n")
        if lines:
            self.heard_at = time.monotonic()
        return [json.loads(line) for line in lines]

    @property
    def is_stuck(self) -> bool:
        """Has it been silent for too long?"""
        return time.monotonic() - self.heard_at > STUCK_AFTER

    def has_ended(self) -> bool:
        """Is there nothing to wait for in :meth:`join`?"""
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def kill(self) -> list[Message]:
        """SIGKILL; what it had sent until then."""
        os.kill(self.pid, signal.SIGKILL)
        return self.join()

    def join(self, seconds: float = STUCK_AFTER) -> list[Message]:
        """Wait for its end; what it had sent and was not read yet.

        :raises TimeoutError: it does not end.
        """
        deadline = time.monotonic() + seconds
        found: list[Message] = []
        while self.status is None:
            found += self.messages()
            # Who has closed the pipe ends; it stays readable, so that we would spin.
            how = 0 if self._is_closed else os.WNOHANG
            pid, status = os.waitpid(self.pid, how)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"child {self.pid} does not end")
            else:
                # Readable at its end, too.
                select.select([self._fd], [], [], 0.05)
        found += self.messages()
        os.close(self._fd)
        return found


def in_child(work: Callable[[Report], None]) -> list[Message]:
    """Run in a child that must come to its own end; what it sent."""
    child = Child(work)
    messages = child.join()
    if child.status:
        raise AssertionError(f"child ended with {child.status}: {messages}")
    return messages


def _die_with(parent: int) -> None:
    """No child outlives its driver."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _run(work: Callable[[Report], None], report: Report) -> None:
    status = 1
    try:
        work(report)
        status = 0
    except BaseException:
        report.send("error", traceback.format_exc())
    finally:
        os._exit(status)


def run_driver(module: str, *arguments: object, timeout: float) -> str:
    """Run a driver as a program of its own; its output, or the test fails with it."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    print(done.stdout)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout[-8000:]}", pytrace=False)
    return done.stdout
