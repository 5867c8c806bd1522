"""The policy of a blueprint as the engine's port: one method for each hook.

Knows what a hook may leave in the application's session, and nothing of HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .config.settings import Settings
from .database.quotas import QuotaTable
from .database.session_guard import SessionGuard
from .engine.gate import MAX_LENGTH
from .engine.records import Quota, Upload
from .exceptions import LengthUndeclared
from .hook_calls import HookCalls
from .models.columns import Ownership
from .policy import UploadPolicy
from .signals import BY_EVENT
from .storage.base import Place

logger = logging.getLogger("flask_chunked")


#: Hooks that limit owners. Counts exist if one of them is there at registration.
LIMITS = ("get_max_open_uploads", "get_max_total_bytes", "get_max_stored_bytes")


class PolicyHooks:
    """The hooks of a policy as the engine calls them.

    :param quotas: counts uploads of owners; ``None``: no limit is set.
    :param calls: calls the hooks and the receivers of signals.
    :param instance: loads an upload's model instance into ``db.session``.
    """

    def __init__(
        self,
        policy: UploadPolicy,
        settings: Settings,
        sessions: SessionGuard,
        quotas: QuotaTable | None,
        calls: HookCalls,
        instance: Callable[[Upload], Any],
    ) -> None:
        self._policy = policy
        self._settings = settings
        self._sessions = sessions
        self._quotas = quotas
        self._calls = calls
        self._instance = instance
        #: The columns that ``get_fields`` may set, once they were needed.
        self._own: Collection[str] | None = None
        self._overrides = policy.overrides

    @property
    def inspects(self) -> bool:
        """True if ``inspect`` is overridden."""
        return self._overrides("inspect")

    @property
    def verifies(self) -> bool:
        """True if ``verify`` is overridden."""
        return self._overrides("verify")

    @property
    def delivers(self) -> bool:
        """True if ``deliver`` is overridden."""
        return self._overrides("deliver")

    @property
    def counts_stored(self) -> bool:
        """True if a limit counts finished uploads."""
        return self._quotas is not None and self._quotas.counts_stored

    @property
    def keeps_partials(self) -> bool:
        """The setting ``keep_partials``."""
        return self._settings.keep_partials

    def max_bytes(self) -> int | None:
        """The limit of ``get_max_bytes()``."""
        if self._overrides("get_max_bytes"):
            return self._max("get_max_bytes")
        return self._settings.max_bytes

    def quota(self, length: int | None) -> Quota | None:
        """The caller's limits, and what an upload of this length counts.

        :param length: bytes; ``None``: deferred.
        :raises LengthUndeclared: bytes are limited, and no length can be assumed.
        """
        if self._quotas is None:
            self._require_no_late_limit()
            return None
        most = self._max("get_max_open_uploads")
        most_bytes = self._max("get_max_total_bytes")
        most_stored = self._max("get_max_stored_bytes")
        if (most, most_bytes, most_stored) == (None, None, None):
            return None
        reserve = self._max("get_max_bytes") if length is None else length
        if reserve is None and (most_bytes, most_stored) != (None, None):
            raise LengthUndeclared()
        return Quota(most, most_bytes, min(MAX_LENGTH, reserve or 0), most_stored)

    def _require_no_late_limit(self) -> None:
        for hook in LIMITS:
            if self._overrides(hook):
                raise RuntimeError(
                    f"{hook}() was set after the blueprint was registered, when no "
                    "limit was known. Set it before register_blueprint()"
                )

    @property
    def may_defer_length(self) -> bool:
        """True if an upload may be created without its length."""
        if self._quotas is None:
            return True
        limits = (self._max("get_max_total_bytes"), self._max("get_max_stored_bytes"))
        return limits == (None, None) or self._max("get_max_bytes") is not None

    def _max(self, hook: str) -> int | None:
        limit: int | None = self._calls(hook)
        return limit

    def fields(self) -> Mapping[str, object]:
        """The values of ``get_fields()``.

        :raises RuntimeError: one is for no column of the application's own.
        """
        if not self._overrides("get_fields"):
            return {}
        with self._clean_session("get_fields()"):
            given = self._calls("get_fields")
        if not isinstance(given, Mapping):
            raise RuntimeError(
                f"get_fields() returned {type(given).__name__}; return a dict of "
                "column names and values"
            )
        if self._own is None:
            here = self._policy.registration
            self._own = Ownership(here.model, self._policy.user_field_name).own
        stray = sorted(repr(name) for name in given if name not in self._own)
        if stray:
            columns = ", ".join(sorted(self._own)) or "none"
            raise RuntimeError(
                f"get_fields() returned values for {', '.join(stray)}, but the model's "
                f"own columns are: {columns}. Add the columns to the model, or return "
                "only values of own columns"
            )
        return given

    @property
    def places(self) -> bool:
        """True if ``get_path`` or ``new_name`` is overridden."""
        return self._overrides("get_path") or self._overrides("new_name")

    def place(self, upload: Upload) -> Place:
        """What ``get_path`` and ``new_name`` return for a new upload.

        :raises InvalidPlace: a name is not allowed.
        """
        with self._clean_session("get_path() or new_name()"):
            directory = self._calls("get_path", upload)
            name = self._calls("new_name", upload)
        return Place.from_names(directory, name)

    def validate(self, upload: Upload) -> None:
        """Call ``validate`` with a snapshot."""
        if not self._overrides("validate"):
            return
        with self._clean_session("validate()"):
            self._calls("validate", upload)

    def inspect(self, upload: Upload, head: bytes) -> None:
        """Call ``inspect`` with a snapshot and the first bytes."""
        with self._clean_session("inspect()"):
            self._calls("inspect", upload, head)

    def verify(self, upload: Upload) -> None:
        """Call ``verify`` with an instance of the model."""
        if not self.verifies:
            return
        with self._clean_session("verify()"):
            self._calls("verify", self._instance(upload))

    def deliver(self, upload: Upload) -> None:
        """Call ``deliver`` with an instance of the model."""
        with self._clean_session("deliver()"):
            self._calls("deliver", self._instance(upload))

    @contextmanager
    def _clean_session(self, hook: str) -> Iterator[None]:
        """Release the session before and after the hook.

        :raises RuntimeError: it has uncommitted writes, of the hook or from before.
        """
        # Release first: the rollback below must not discard what others have pending.
        self._sessions.release(f"what ran before {hook}")
        try:
            yield
            self._sessions.release(hook)
        except BaseException:
            # The end of the request would roll back what the hook has left. Roll back
            # now, so that SQLite's write lock does not block what a refusal changes.
            self._sessions.rollback()
            raise

    def is_heard(self, event: str) -> bool:
        """True if the signal has a receiver, for any application."""
        return bool(BY_EVENT[event].receivers)

    def announce(self, event: str, upload: Upload) -> None:
        """Send the signal; an exception of a receiver is only logged."""
        signal = BY_EVENT[event]
        for receiver in signal.receivers_for(self._calls.app):
            try:
                self._calls.receive(signal.name, receiver, upload=upload)
            # A receiver cannot refuse: the commit that it hears of is done.
            except Exception:
                logger.exception("receiver of %s failed", signal.name)
            if not self._sessions.release_if_clean():
                logger.warning(
                    "db.session has uncommitted writes after a receiver of %s; "
                    "flask_chunked does not commit them: call db.session.commit()",
                    signal.name,
                )
