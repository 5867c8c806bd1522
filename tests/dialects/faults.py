"""A process that dies, or a database that does not answer, at a chosen step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from tests.apps import registered
from tests.statements import before_each

REPOSITORY = [
    "create",
    "get",
    "claim",
    "take_over",
    "holds",
    "advance",
    "declare_length",
    "members",
    "waiting_finals",
    "is_used_up",
    "begin_completion",
    "note_verification",
    "refuse_completion",
    "complete",
    "terminate",
    "begin_expiry",
    "expire",
    "expire_all",
    "forget_removals",
    "claim_delivery",
    "mark_delivered",
]
STORAGE = ["stage", "appender", "finalize", "open", "delete"]
APPENDER = ["write", "take", "flush"]


class Crash(BaseException):
    """The process has died: none of its code runs any more."""


class Steps:
    """Every call of an app's repository and storage is a step; the app dies at one.

    After the crash each further call fails too, so that no clean-up of ours helps.

    :param at: number of the step to die at, from 0.
    :param after: die when the step has had its effect, not before.
    """

    def __init__(self, at: int, *, after: bool) -> None:
        self.names: list[str] = []
        self.dead = False
        self._at = at
        self._after = after

    def watch(self, target: Any, names: list[str], patch: pytest.MonkeyPatch) -> None:
        """Count calls of these methods as steps."""
        for name in names:
            patch.setattr(target, name, self._step(name, getattr(target, name)))

    def _step(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Crash(name)
            self.names.append(name)
            dying = len(self.names) == self._at + 1
            if dying and not self._after:
                self._die()
            result = method(*args, **kwargs)
            if dying:
                self._die(result)
            if name == "appender":
                for inner in APPENDER:
                    wrapped = self._step(inner, getattr(result, inner))
                    setattr(result, inner, wrapped)
            return result

        return step

    def _die(self, result: object = None) -> None:
        self.dead = True
        if hasattr(result, "close"):
            result.close()
        raise Crash(self.names[-1])


@contextmanager
def dying(app: Flask, at: int, *, after: bool) -> Iterator[Steps]:
    """In the block, the app's process dies at the step with this number."""
    steps = Steps(at, after=after)
    here = registered(app)
    with pytest.MonkeyPatch.context() as patch:
        steps.watch(here.repository, REPOSITORY, patch)
        steps.watch(here.storage, STORAGE, patch)
        yield steps


def every_crash(app: Flask, request: Callable[[], object]) -> Iterator[str]:
    """Make the request die at each of its steps, before and after the step's effect.

    Yields what happened each time, for the caller to look, and to begin anew for the
    next request; each of the two passes ends with a request that comes through.
    """
    for after in (False, True):
        at = 0
        while True:
            with dying(app, at, after=after) as steps, suppress(Crash):
                request()
            if not steps.dead:
                yield "no crash"
                break
            yield f"{'after' if after else 'before'} {steps.names[-1]}"
            at += 1


@contextmanager
def database_failing(app: Flask, words: str) -> Iterator[None]:
    """In the block, statements that begin with these words find no database."""

    def fail(statement: str) -> None:
        if " ".join(statement.split()).startswith(words):
            raise OperationalError(statement, None, Exception("server is gone"))

    with before_each(registered(app).database, fail):
        yield


def open_files() -> int:
    """The number of open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))
