"""Other requests at an exact point of a request, or all at once.

A rival runs in a thread of its own, because it may have to wait for what the request
has locked. So a request that waits for its rival waits a moment only. What happens in
the request's own thread waits in vain for what the request has locked:
:func:`give_up_at_once` spares it that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local.lock import LockTimeout
from tests.apps import registered

#: Seconds that a request gives its rival, which may be waiting for this very request.
MOMENT = 1.0
#: The same on SQLite, whose one writer makes every rival wait that writes.
MOMENT_ON_SQLITE = 0.15
#: Seconds until a thread counts as stuck.
STUCK = 60.0


class Rival:
    """Something that another request does meanwhile.

    :param act: what it does; its result is :attr:`result`.
    """

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None
        self.result: Any = None

    def _run(self) -> None:
        try:
            self.result = self._act()
        except BaseException as error:
            self._failure = error

    def start(self) -> None:
        """Let it begin."""
        self._thread.start()

    def meet(self) -> None:
        """Let it begin, and come to its end where nothing holds it up."""
        self.start()
        self._thread.join(MOMENT)

    def end(self) -> Any:
        """Wait for its end; its result, or what it raised."""
        self._thread.join(STUCK)
        assert not self._thread.is_alive(), "the rival is stuck"
        if self._failure is not None:
            raise self._failure
        return self.result


def before(
    patch: pytest.MonkeyPatch,
    target: object,
    method: str,
    act: Callable[[], object],
    *,
    skip: int = 0,
) -> None:
    """Let something happen once, just before a method is called.

    :param skip: calls before that one.
    """
    real = getattr(target, method)
    left = [skip]

    def called(*arguments: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
        else:
            patch.setattr(target, method, real)
            act()
        return real(*arguments, **more)

    patch.setattr(target, method, called)


def after(
    patch: pytest.MonkeyPatch, target: object, method: str, act: Callable[[], object]
) -> None:
    """Let something happen once, just after a method was called."""
    real = getattr(target, method)

    def called(*arguments: Any, **more: Any) -> Any:
        patch.setattr(target, method, real)
        result = real(*arguments, **more)
        act()
        return result

    patch.setattr(target, method, called)


def give_up_at_once(patch: pytest.MonkeyPatch, app: Flask) -> None:
    """Let no request wait for the lock of a file: for tests with one thread."""
    storage = registered(app).storage
    if isinstance(storage, LocalStorage):
        patch.setattr(storage, "_lock_timeout", LockTimeout(0.0))


def together(*acts: Callable[[], object]) -> list[Any]:
    """Each in a thread, from one starting line; their results, in order."""
    line = threading.Barrier(len(acts))

    def started(act: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            line.wait(STUCK)
            return act()

        return run

    rivals = [Rival(started(act)) for act in acts]
    for rival in rivals:
        rival.start()
    return [rival.end() for rival in rivals]
