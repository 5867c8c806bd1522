"""Calls an application's functions as Flask calls its views: the hooks, the receivers.

Coroutine functions are awaited, ``HTTPException`` is a refusal, and a call that has not
run to its end is an error. Knows nothing of what the hooks decide.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException

from .exceptions import (
    Aborted,
    ChunkedUploadError,
    ConfigurationError,
    HookError,
    UnknownUpload,
)
from .policy import HOOKS, UploadPolicy

Function = Callable[..., Any]
#: Types of results that need no further look.
_PLAIN = frozenset({bool, type(None), int, str})
#: Headers of an exception that describe its own body.
_OF_BODY = frozenset({"content-type", "content-length"})


class HookCalls:
    """Calls the hooks of one policy in one app.

    :param name: of the blueprint, for the texts of errors.
    :raises ConfigurationError: a hook is a coroutine function and cannot be awaited.
    """

    def __init__(self, app: Flask, policy: UploadPolicy, name: str) -> None:
        self.app = app
        self._policy = policy
        self._name = name
        #: Hook -> the function that is known to be no coroutine function.
        self._plain: dict[str, object] = {}
        for hook in HOOKS:
            self._waiting(hook, getattr(policy, hook))

    def __call__(self, hook: str, *args: object) -> Any:
        """Call a hook.

        :return: what the hook returned; of a coroutine function, what it awaited.
        :raises ChunkedUploadError: the hook refuses, also by ``abort()``.
        :raises HookError: the hook has not run to its end.
        """
        function = getattr(self._policy, hook)
        answers = hook == "on_completion"
        try:
            if self._plain.get(hook) is not getattr(function, "__func__", function):
                function = self._waiting(hook, function)
            result = function(*args)
        except HTTPException as error:
            raise refusal_from(error, hides=not answers) from error
        except ConfigurationError as error:
            raise HookError(str(error)) from error
        if type(result) not in _PLAIN:
            # A view may return a generator, which Flask sends block by block.
            self._require_end(hook, result, streams=answers)
        return result

    def authorize(self, action: str, upload: object) -> bool:
        """Ask ``authorize``.

        :raises HookError: the answer is no plain value. Objects are true, whatever
            they mean: a method that was not called, a response with an error.
        """
        answer = self("authorize", action, upload)
        if not isinstance(answer, bool | int | float | str | None):
            raise HookError(
                f"{self._told('authorize')} returned a value of the type "
                f"{type(answer).__name__!r}; return True or False"
            )
        return bool(answer)

    def receive(self, signal: str, receiver: Function, **values: object) -> None:
        """Call the receiver of a signal, with the app as sender.

        :raises HookError: it is an awaitable that nothing awaits.
        """
        function = synchronous(self.app, receiver, self._told(signal))
        self._require_end(signal, function(self.app, **values), streams=False)

    def _waiting(self, hook: str, function: Function) -> Function:
        """The function, which waits for the result if it is a coroutine function."""
        waiting = synchronous(self.app, function, self._told(hook))
        if waiting is function:
            self._plain[hook] = getattr(function, "__func__", function)
        return waiting

    def _require_end(self, called: str, result: object, *, streams: bool) -> None:
        kind = _unfinished(result)
        if kind is None or (kind == "generator" and streams):
            return
        # Python would warn of a coroutine that was never awaited.
        close = getattr(result, "close", None)
        if callable(close):
            close()
        cure = "Remove its 'yield'" if "generator" in kind else "Write 'async def'"
        raise HookError(
            f"{self._told(called)} returned a value of the kind {kind}, which nothing "
            f"runs or awaits. {cure}, or return a plain value"
        )

    def _told(self, called: str) -> str:
        what = f"{called}()" if called in HOOKS else f"A receiver of {called}"
        return f"{what} of blueprint {self._name!r}"


def synchronous(app: Flask, function: Function, told: str) -> Function:
    """The function; if it is a coroutine function, one that waits for its result.

    :param told: the function's name in an error.
    :raises ConfigurationError: it is a coroutine function and cannot be awaited here.
    """
    if not inspect.iscoroutinefunction(function):
        call = getattr(function, "__call__", None)  # noqa: B004
        if not inspect.iscoroutinefunction(call):
            return function
        # An object whose class has an ``async def __call__``.
        function = call
    patched_by = _patches_threading()
    if patched_by is not None:
        raise ConfigurationError(
            f"{told} is a coroutine function, which cannot run where {patched_by} has "
            "patched threading: two event loops in one thread fail. Write it as a "
            f"plain function, in which {patched_by} waits without blocking others"
        )
    try:
        waiting: Function = app.ensure_sync(function)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{told} is a coroutine function, which needs asgiref: "
            "pip install 'flask[async]'"
        ) from error
    return waiting


def refusal_from(error: HTTPException, *, hides: bool = True) -> ChunkedUploadError:
    """The refusal that the ``HTTPException`` of a hook stands for.

    :param hides: 404 hides an upload from the caller: the answer is that of an unknown
        id.
    """
    response: Any = error.response
    if response is None and type(error).get_response is not HTTPException.get_response:
        response = error.get_response()
    if response is not None:
        return Aborted(
            error.description, status=response.status_code, response=response
        )
    if error.code == 404 and hides:
        return UnknownUpload()
    detail = error.name if error.description is None else str(error.description)
    headers = error.get_headers(None)
    return Aborted(
        detail,
        status=error.code,
        headers=[one for one in headers if one[0].lower() not in _OF_BODY],
    )


def _unfinished(result: object) -> str | None:
    """What the result is, if it stands for code that has not run; else ``None``."""
    if inspect.iscoroutine(result):
        return "coroutine"
    if inspect.isasyncgen(result):
        return "asynchronous generator"
    if inspect.isawaitable(result):
        return "awaitable"
    return "generator" if inspect.isgenerator(result) else None


def _patches_threading() -> str | None:
    """The library whose greenlets replace threads in this process; ``None``: none."""
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None
