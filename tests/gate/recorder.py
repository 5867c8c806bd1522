"""Policies that write down what they are asked, and refuse what a test wants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import inspect

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    Upload,
    chunk_received,
    upload_completed,
    upload_created,
    upload_terminated,
)
from tests.apps import make_app, registered

ORDINARY, PARTIAL, FINAL = "ordinary", "partial", "final"
#: Status of a hook's refusal; no other answer has it.
REFUSED = 418

SIGNALS = {
    "created": upload_created,
    "chunk_received": chunk_received,
    "completed": upload_completed,
    "terminated": upload_terminated,
}
HOOKS = ("validate", "inspect", "verify", "deliver", "on_completion")


class Crash(BaseException):
    """Ends a request as the death of its process would: nothing of it goes on."""


@dataclass(frozen=True, slots=True)
class Note:
    """One call of a hook.

    :param length: of the upload that the hook was given.
    :param data: the first bytes (``inspect``) or the content (``verify``, ``deliver``).
    """

    hook: str
    kind: str
    length: int | None
    data: bytes | None = None

    def __str__(self) -> str:
        data = "" if self.data is None else f", {len(self.data)} bytes"
        return f"{self.hook}({self.kind}, {self.length}{data})"


@dataclass(slots=True)
class Notes:
    """What one request did.

    :ivar actions: of ``authorize``, each with the kind of its upload; an action that is
        asked again at once stands here once.
    :ivar signals: names, each with the kind of its upload.
    """

    actions: list[tuple[str, str | None]] = field(default_factory=list)
    hooks: list[Note] = field(default_factory=list)
    signals: list[tuple[str, str]] = field(default_factory=list)

    def act(self, action: str, kind: str | None) -> None:
        """Note an action."""
        if self.actions[-1:] != [(action, kind)]:
            self.actions.append((action, kind))


@dataclass(slots=True)
class Refusal:
    """What is refused next.

    :param what: a hook, or ``authorize`` and an action: ``authorize complete``.
    :param times: calls that pass before.
    :param kind: of the uploads that it is about; ``None``: each.
    :param error: raised; ``authorize`` answers ``False`` where it is ``None``.
    """

    what: str
    times: int = 0
    kind: str | None = None
    error: BaseException | None = None


def kind_of(upload: Any) -> str:
    """The kind, by the columns that tell it."""
    if upload.partial:
        return PARTIAL
    return ORDINARY if upload.concat is None else FINAL


class Recorder(ChunkedUploadBlueprint):
    """Has no hook of its own; :func:`policy` adds those that are wanted."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.notes = Notes()
        #: Ids of the uploads that were given to hooks of a file.
        self.asked: set[Any] = set()
        self.refusal: Refusal | None = None
        #: What was refused, and of which kind of upload.
        self.refused: tuple[str, str | None] | None = None

    def turn(self) -> Notes:
        """What was noted since the last turn; a refusal holds until then."""
        notes, self.notes = self.notes, Notes()
        if self.refused is not None:
            self.refusal = self.refused = None
        return notes

    def note(self, hook: str, upload: Any, data: bytes | None = None) -> None:
        """Note a hook's call, and refuse it if this is the one."""
        kind = kind_of(upload)
        self.notes.hooks.append(Note(hook, kind, upload.length, data))
        self.asked.add(upload.id)
        self.decide(hook, kind)

    def decide(self, what: str, kind: str | None) -> bool:
        """Refuse what is to be refused: a hook once, an action for one request."""
        due = self.refusal
        if due is None or due.what != what or due.kind not in (None, kind):
            return True
        if due.times:
            due.times -= 1
            return True
        self.refused = (what, kind)
        if due.error is None:
            return False
        self.refusal = None
        raise due.error

    def content(self, upload: Any) -> bytes:
        """What the application reads of an upload."""
        with self.open(upload) as file:
            return file.read()


class Hooks:
    """Every hook that there is; each notes its arguments."""

    def authorize(self: Any, action: str, upload: Upload | None) -> bool:
        kind = None if upload is None else kind_of(upload)
        self.notes.act(action, kind)
        return bool(self.decide(f"authorize {action}", kind))

    def validate(self: Any, upload: Upload) -> None:
        self.note("validate", upload)

    def inspect(self: Any, upload: Upload, head: bytes) -> None:
        self.note("inspect", upload, bytes(head))

    def verify(self: Any, upload: Any) -> None:
        assert upload.status == "completing"
        self.note("verify", upload, self.content(upload))

    def deliver(self: Any, upload: Any) -> None:
        assert upload.is_complete
        self.note("deliver", upload, self.content(upload))

    def on_completion(self: Any, upload: Any) -> None:
        assert upload.is_complete
        self.note("on_completion", upload)


def policy(hooks: Iterable[str], **attributes: Any) -> type[Recorder]:
    """A blueprint's class with these hooks and attributes."""
    body: dict[str, Any] = {name: getattr(Hooks, name) for name in hooks}
    return type("Uploads", (Recorder,), {**body, **attributes})


def refusal_by_hook() -> ChunkedUploadError:
    """What a hook raises; every dialect answers it with its own status."""
    return ChunkedUploadError("No", status=REFUSED)


class Site:
    """An app with one recording blueprint, and its client."""

    def __init__(self, tmp_path: Path, uploads: type[Recorder], **config: Any) -> None:
        # One directory is quicker looked through than one for each day.
        config = {
            "CHUNKED_UPLOAD_DURABLE": False,
            "CHUNKED_UPLOAD_PATH": "uploads",
            **config,
        }
        self.tmp_path = tmp_path
        self.app: Flask = make_app(tmp_path, blueprint_class=uploads, **config)
        self.client = self.app.test_client()
        self.here = registered(self.app)
        blueprint = self.here.policy
        assert isinstance(blueprint, Recorder)
        self.blueprint = blueprint
        with self.app.app_context(), self.here.database.transaction() as connection:
            there = inspect(connection).get_table_names()
        #: Other apps of the same metadata may have more.
        self.tables = [
            table
            for table in self.here.db.metadata.sorted_tables
            if table.name in there
        ]
        self._receivers = [self._listen(name) for name in SIGNALS]

    def _listen(self, name: str) -> Any:
        def receive(app: Flask, upload: Upload, **more: object) -> None:
            self.blueprint.notes.signals.append((name, kind_of(upload)))

        SIGNALS[name].connect(receive, sender=self.app)
        # The signal itself keeps no receiver alive.
        return receive
