"""A state machine over tus against a small model.

Create, append, cut, duplicate, look, terminate, concatenate, expire, crash: whatever
the order, the server says what the model says and stores what the model holds.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from werkzeug.test import TestResponse

from flask_chunked.exceptions import DatabaseUnavailable
from tests.apps import dispose, make_app, registered
from tests.dialects.tus import BYTES, Tus, checksum
from tests.figures import figure, size

#: Runs and steps of the slow tier, and of the fast one.
RUNS = figure("MACHINE_RUNS", 200, 5_000)
STEPS = size("MACHINE_STEPS", 40, 100)
FAST_RUNS, FAST_STEPS = 6, 25

BODIES = st.binary(max_size=40)


@dataclass
class Model:
    """The expected state of an upload."""

    length: int
    content: bytes = b""
    partial: bool = False
    members: tuple[str, ...] = ()
    touched: int = 0
    gone: int | None = None
    history: list[bytes] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.content) == self.length

    @property
    def is_waiting(self) -> bool:
        """True for a final upload that is not assembled yet."""
        return bool(self.members) and self.gone is None and not self.is_complete


class Crash(BaseException):
    """The process dies here."""


class TusMachine(RuleBasedStateMachine):
    """The server under test, and its model."""

    uploads = Bundle("uploads")
    partials = Bundle("partials")

    @initialize()
    def start(self) -> None:
        self.tmp = Path(tempfile.mkdtemp(prefix="machine"))
        self.app = make_app(
            self.tmp, CHUNKED_UPLOAD_DOWNLOADS=True, CHUNKED_UPLOAD_DURABLE=False
        )
        self.tus = Tus(self.app.test_client())
        self.models: dict[str, Model] = {}
        #: Complete uploads; the one that comes first was looked at longest ago.
        self.asked: list[str] = []
        self.hours = 0
        engine: Any = registered(self.app).engine
        real = engine.clock
        clock = lambda: real() + timedelta(hours=self.hours)  # noqa: E731
        engine.clock = clock

    def teardown(self) -> None:
        if hasattr(self, "app"):
            dispose(self.app)
            shutil.rmtree(self.tmp)

    def expired(self, model: Model) -> bool:
        """Partial uploads expire also when they are complete."""
        if model.is_complete and not model.partial:
            return False
        return self.hours - self.last_activity(model) >= 24

    def last_activity(self, model: Model) -> int:
        """Of the upload itself, and in the concatenations that it belongs to."""
        groups = [model] if model.is_waiting else self.finals_waiting_for(model)
        moments = [model.touched]
        for final in groups:
            members = [self.models[url] for url in final.members]
            moments.append(final.touched)
            moments += [member.touched for member in members if member.gone is None]
        return max(moments)

    def finals_waiting_for(self, partial: Model) -> list[Model]:
        return [
            final
            for final in self.models.values()
            if final.is_waiting
            and any(self.models[url] is partial for url in final.members)
        ]

    def refused(self, model: Model, response: TestResponse) -> bool:
        """True if the upload is gone and the server reports that."""
        if model.gone is not None:
            assert response.status_code == model.gone
            return True
        if self.expired(model):
            assert response.status_code == 410
            return True
        return False

    @rule(
        target=uploads,
        length=st.integers(0, 60),
        body=st.none() | BODIES,
        partial=st.booleans(),
    )
    def create(self, length: int, body: bytes | None, partial: bool) -> Any:
        headers = {"Upload_Concat": "partial"} if partial else {}
        response = self.tus.post(body, Upload_Length=str(length), **headers)
        if body is not None and len(body) > length:
            assert response.status_code == 413
            return multiple()
        assert response.status_code == 201
        url = response.headers["Location"]
        model = Model(length, body or b"", partial, touched=self.hours)
        model.history.append(body or b"")
        self.models[url] = model
        return url

    @rule(target=partials, body=BODIES, missing=st.sampled_from([0, 0, 3]))
    def create_partial(self, body: bytes, missing: int) -> str:
        """Complete at once, or almost, so that many finals can be assembled."""
        url = self.tus.partial(body, len(body) + missing)
        self.models[url] = Model(
            len(body) + missing, body, True, touched=self.hours, history=[body]
        )
        return url

    @rule(url=uploads | partials, body=BODIES, at=st.sampled_from([0, 0, 0, -1, 1]))
    def append(self, url: str, body: bytes, at: int) -> None:
        model = self.models[url]
        offset = max(0, len(model.content) + at)
        response = self.tus.patch(url, offset, body)
        if model.members and model.gone is None:
            assert response.status_code == 403
            return
        if self.refused(model, response):
            return
        if offset != len(model.content):
            assert response.status_code == 409
        elif offset + len(body) > model.length:
            assert response.status_code == 413
        else:
            assert response.status_code == 204
            self.take(model, body)

    @rule(url=uploads | partials, body=BODIES, right=st.booleans())
    def append_checked(self, url: str, body: bytes, right: bool) -> None:
        model = self.models[url]
        value = checksum("sha256", body if right else body + b"x")
        offset = len(model.content)
        response = self.tus.patch(url, offset, body, Upload_Checksum=value)
        if model.members and model.gone is None:
            assert response.status_code == 403
            return
        if self.refused(model, response):
            return
        if offset + len(body) > model.length:
            assert response.status_code == 413
        elif model.is_complete:
            assert response.status_code == 204
        elif right:
            assert response.status_code == 204
            self.take(model, body)
        else:
            assert response.status_code == 460

    @rule(url=uploads | partials, body=BODIES, missing=st.integers(1, 20))
    def cut(self, url: str, body: bytes, missing: int) -> None:
        """The body ends before its Content-Length: what arrived is kept."""
        model = self.models[url]
        announced = len(body) + missing
        response = self.tus.client.patch(
            url,
            headers={**BYTES, "Upload-Offset": str(len(model.content))},
            input_stream=io.BytesIO(body),
            environ_overrides={"CONTENT_LENGTH": str(announced)},
        )
        if model.members and model.gone is None:
            assert response.status_code == 403
            return
        if self.refused(model, response):
            return
        if len(model.content) + announced > model.length:
            assert response.status_code == 413
        else:
            assert response.status_code == 503
            self.take(model, body)

    @rule(url=uploads | partials)
    def duplicate(self, url: str) -> None:
        """The last body at its old offset is refused: tus has no repeats."""
        model = self.models[url]
        if model.members or not model.history or not model.history[-1]:
            return
        body = model.history[-1]
        response = self.tus.patch(url, len(model.content) - len(body), body)
        if not self.refused(model, response):
            assert response.status_code == 409

    @rule(url=uploads | partials, body=st.binary(min_size=1, max_size=20))
    def crash(self, url: str, body: bytes) -> None:
        """The process dies after the bytes, before the offset: they do not count."""
        model = self.models[url]
        if model.members or model.gone is not None or self.expired(model):
            return
        if len(model.content) + len(body) > model.length:
            return
        repository: Any = registered(self.app).repository
        advance = repository.advance

        def die(step: object) -> bool:
            raise Crash

        repository.advance = die
        try:
            with pytest.raises((Crash, DatabaseUnavailable)):
                self.tus.patch(url, len(model.content), body)
        finally:
            repository.advance = advance

    @rule(url=uploads | partials)
    def look(self, url: str) -> None:
        model = self.models[url]
        response = self.tus.head(url)
        if model.is_waiting and self.members_gone(model):
            assert response.status_code == 410
            return
        if self.refused(model, response):
            return
        assert response.status_code == 200
        if not model.members or model.is_complete:
            assert int(response.headers["Upload-Offset"]) == len(model.content)
        assert int(response.headers["Upload-Length"]) == model.length

    @rule(url=consumes(uploads) | consumes(partials))
    def terminate(self, url: str) -> None:
        model = self.models[url]
        response = self.tus.delete(url)
        if model.gone == 404:
            assert response.status_code == 404
            return
        assert response.status_code == 204
        model.gone = 404
        assert self.tus.head(url).status_code == 404

    @rule(
        target=uploads,
        urls=st.lists(partials | partials | uploads, min_size=1, max_size=3),
    )
    def concatenate(self, urls: list[str]) -> Any:
        members = [self.models[url] for url in urls]
        response = self.tus.final(*urls)
        for member in members:
            if self.refused(member, response):
                return multiple()
        if not all(member.partial for member in members):
            assert response.status_code == 400
            return multiple()
        if any(
            not member.is_complete and len(self.finals_waiting_for(member)) >= 8
            for member in members
        ):
            assert response.status_code == 429
            return multiple()
        assert response.status_code == 201, response.text
        for member in members:
            member.touched = self.hours
        url = response.headers["Location"]
        model = Model(
            sum(member.length for member in members),
            members=tuple(urls),
            touched=self.hours,
        )
        self.models[url] = model
        self.make_finals()
        return url

    @rule(target=uploads, picks=st.lists(st.integers(0, 9), min_size=2, max_size=4))
    def concatenate_what_is_complete(self, picks: list[int]) -> Any:
        ready = [
            url
            for url, model in self.models.items()
            if model.partial
            and model.is_complete
            and model.gone is None
            and not self.expired(model)
        ]
        if len(ready) < 2:
            ready += [str(self.create_partial(body, 0)) for body in (b"left", b"right")]
        return self.concatenate([ready[pick % len(ready)] for pick in picks])

    @rule(hours=st.sampled_from([1, 5, 12, 23]))
    def wait(self, hours: int) -> None:
        self.hours += hours

    @rule()
    def clean_up(self) -> None:
        self.app.test_cli_runner().invoke(args=["chunked-uploads", "delete-expired"])
        old = [
            model
            for model in self.models.values()
            if model.gone is None and self.expired(model)
        ]
        for model in old:
            model.gone = 404

    @invariant()
    def stored_is_what_was_acknowledged(self) -> None:
        """In the storage; over HTTP, when it is complete and again in turn."""
        complete = {
            url: model
            for url, model in getattr(self, "models", {}).items()
            if model.gone is None and model.is_complete
        }
        if not complete:
            return
        stored = self.stored(complete)
        assert stored == {url: model.content for url, model in complete.items()}
        self.asked = [url for url in self.asked if url in complete]
        new = [url for url in complete if url not in self.asked]
        again, rest = self.asked[:1], self.asked[1:]
        for url in (*new, *again):
            self.ask(url, complete[url])
        self.asked = [*rest, *new, *again]

    def ask(self, url: str, model: Model) -> None:
        if model.partial:
            # It is not a file; its bytes are for its final upload.
            assert self.tus.client.get(url + "/file").status_code == 404
        else:
            assert self.tus.content(url) == model.content

    def stored(self, urls: Iterable[str]) -> dict[str, bytes]:
        here = registered(self.app)
        found = {}
        with self.app.app_context():
            for url in urls:
                upload = here.repository.get(UUID(url.rpartition("/")[-1]))
                assert upload is not None
                assert upload.blob is not None
                with here.storage.open(upload.blob) as file:
                    found[url] = file.read(1000)
        return found

    def take(self, model: Model, body: bytes) -> None:
        model.content += body
        if body:
            model.touched = self.hours
            model.history.append(body)
        self.make_finals()

    def members_gone(self, model: Model) -> bool:
        return any(self.models[url].gone is not None for url in model.members)

    def make_finals(self) -> None:
        """A final upload is assembled when its last member completes."""
        for model in self.models.values():
            if not model.members or model.content or model.gone is not None:
                continue
            if self.expired(model) or self.members_gone(model):
                continue
            members = [self.models[url] for url in model.members]
            if all(member.is_complete for member in members):
                model.content = b"".join(member.content for member in members)
                model.touched = self.hours


def _settings(runs: int, steps: int) -> settings:
    return settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_the_server_is_the_model() -> None:
    run_state_machine_as_test(TusMachine, settings=_settings(FAST_RUNS, FAST_STEPS))


@pytest.mark.slow
def test_the_server_is_the_model_in_every_order() -> None:
    run_state_machine_as_test(TusMachine, settings=_settings(RUNS, STEPS))
