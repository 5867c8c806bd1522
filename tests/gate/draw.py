"""Draws steps: mostly sensible requests, at uploads that the model knows."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tests.gate.model import Model
from tests.gate.picks import TUS
from tests.gate.requests import PREFIX, URLENCODED, USER, Request
from tests.gate.rules import draw_limits
from tests.gate.scenes import Scenes
from tests.gate.uploads import COMPLETE


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that happens to the server and is no request."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}({told})"


@dataclass(frozen=True, slots=True)
class Step:
    """What comes next, and how much time passes before it."""

    wait: timedelta
    what: Request | Operation

    def __str__(self) -> str:
        return f"[+{self.wait}] {self.what}"


class Draw(Scenes):
    """Draws what comes next."""

    def __init__(self, model: Model, rng: random.Random) -> None:
        super().__init__(model, rng)
        self.acts = []
        self._moves: Sequence[tuple[int, Callable[[], Request]]] = (
            (14, self._tus_create),
            (20, self._tus_patch),
            (7, self._head),
            (5, self._get),
            (3, self._file),
            (4, self._list),
            (4, self._delete),
            (10, self._put_first),
            (16, self._put_next),
            (6, self._whole),
            (10, self._complete),
            (1, self._odd),
            (8, self._final),
            (1, self._crowd),
            (1, self._vigil),
        )

    def step(self) -> Step:
        """The next one."""
        rng = self._rng
        idle = self._model.rules.idle
        wait = rng.choices(
            [
                timedelta(0),
                timedelta(milliseconds=rng.randrange(1, 5000)),
                timedelta(seconds=61),
                # What is active in between outlives two of these.
                idle * 0.6,
                idle * rng.choice([0.2, 1, 1.1]),
            ],
            [25, 64, 6, 3, 2],
        )[0]
        if self._is(0.05):
            return Step(wait, self._operation())
        if self.acts and self._is(0.85):
            wait, act = self.acts.pop(0)
            return Step(wait, act())
        weights, moves = zip(*self._moves, strict=True)
        request = rng.choices(moves, weights)[0]()
        return Step(wait, self._spoilt(request))

    def _operation(self) -> Operation:
        rules = self._model.rules
        if rules.moving and self._is(0.4):
            return Operation("limits", draw_limits(self._rng, moving=True))
        name = self._rng.choice(["delete_expired", "check", "deliver_pending"])
        if name == "deliver_pending":
            return Operation(name)
        key = "keep_records" if name == "delete_expired" else "repair"
        return Operation(name, {key: self._is(0.4)})

    def _spoilt(self, request: Request) -> Request:
        """The same by way of an override, sometimes."""
        method, headers = request.method, dict(request.headers)
        if method in ("PUT", "PATCH", "DELETE") and self._is(0.08):
            headers["X-HTTP-Method-Override"] = method
            return replace(request, method="POST", headers=headers)
        if self._is(0.02) and method != "POST":
            headers["X-HTTP-Method-Override"] = self._rng.choice(["DELETE", "PATCH"])
            return replace(request, headers=headers)
        raw = request.form is None and request.body and not request.chunked
        if raw and headers.get("Content-Type") != URLENCODED and self._is(0.05):
            return self._cut(request)
        if request.payload and self._is(0.015):
            headers["Content-Encoding"] = "gzip"
            return replace(request, headers=headers)
        return request

    def _cut(self, request: Request) -> Request:
        """The client goes away before the end."""
        size = len(request.body)
        kept = self._rng.choice([0, 1, size // 2])
        if request.method == "POST" and "Tus-Resumable" in request.headers:
            # Of a creation without a byte nothing is there, or an upload without one.
            kept = max(kept, 1)
        return replace(request, body=request.body[:kept], cut=size - kept)

    def _odd(self) -> Request:
        """A method that its target has not."""
        method, path, headers = self._rng.choice(
            [
                ("PUT", self._path(self._any()), TUS),
                ("POST", self._path(self._any()), TUS),
                ("DELETE", f"{PREFIX}/", {}),
                ("PATCH", f"{PREFIX}/", TUS),
                ("HEAD", f"{PREFIX}/", TUS),
                ("DELETE", self._path(self._any()) + "/file", {}),
            ]
        )
        return Request(method, path, dict(headers))

    # -- looking -----------------------------------------------------------------------

    def _dialect(self) -> dict[str, str]:
        return dict(TUS) if self._is(0.5) else {}

    def _head(self) -> Request:
        upload = self._any()
        headers = {**self._dialect(), **self._who(upload)}
        return Request("HEAD", self._path(upload), headers)

    def _get(self) -> Request:
        upload = self._any()
        headers = {**self._dialect(), **self._who(upload)}
        return Request("GET", self._path(upload), headers)

    def _file(self) -> Request:
        upload = self._upload(lambda one: one.status == COMPLETE)
        headers = {**self._dialect(), **self._who(upload)}
        method = self._rng.choice(["GET", "GET", "HEAD"])
        return Request(method, self._path(upload) + "/file", headers)

    def _list(self) -> Request:
        query = {}
        if self._is(0.7):
            query["status"] = self._rng.choice(["pending", "complete", "all", "x"])
        if self._is(0.3):
            query["count"] = "1"
        if self._is(0.3):
            query["per_page"] = self._rng.choice(["2", "100"])
        if self._is(0.4):
            query["partial"] = "1"
        headers = {**self._dialect(), **self._who()}
        method = "HEAD" if self._is(0.1) and headers.keys() == {USER} else "GET"
        return Request(method, f"{PREFIX}/", headers, query=query)

    def _delete(self) -> Request:
        upload = self._any()
        headers = {**self._dialect(), **self._who(upload)}
        return Request("DELETE", self._path(upload), headers)
