"""Runs a seed: draws, sends, compares; says how to repeat what differs."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tests.gate import compare, range_roads, tus_roads
from tests.gate.draw import Draw, Operation, Step
from tests.gate.model import Model
from tests.gate.requests import PREFIX, USER, Request
from tests.gate.roads import Answer, call_of
from tests.gate.rules import OWNERS, draw_rules
from tests.gate.server import Server
from tests.places import STORAGE

#: Rows, bytes and quotas are compared after so many steps.
EVERY = 40
#: Steps of the report, where it is not known which upload is meant.
SHOWN = 12


class Difference(AssertionError):
    """Model and server differ."""


class Run:
    """A seed on a server of its own.

    :param every: steps after which what is stored is compared.
    """

    def __init__(self, seed: int, tmp: Path, every: int = EVERY) -> None:
        rng = random.Random(seed)
        self._seed = seed
        self._every = every
        rules = draw_rules(rng)
        # Later than every file's real time, so that nothing is too young for a check.
        now = datetime.now(timezone.utc) + timedelta(days=1)
        self.model = Model(rules, now)
        self._draw = Draw(self.model, rng)
        self._server = Server(tmp, rules)
        self._server.set_clock(now)
        self.model.most = self._server.most
        self.steps: list[Step] = []

    def close(self) -> None:
        """Let the server go."""
        self._server.close()

    def go(self, steps: int) -> None:
        """Take so many steps.

        :raises Difference: model and server differ.
        """
        for index in range(steps):
            step = self._draw.step()
            self.steps.append(step)
            found = [*self._take(step)]
            if (index + 1) % self._every == 0 or index + 1 == steps:
                found += self._stored()
            if found:
                raise Difference(self._report(found))

    # -- inside ------------------------------------------------------------------------

    def _take(self, step: Step) -> Iterator[str]:
        model, server = self.model, self._server
        if step.wait:
            model.now += step.wait
            server.set_clock(model.now)
        if isinstance(step.what, Operation):
            yield from self._operate(step.what)
            yield from compare.events(model, server)
            return
        yield from self._answer(step.what)

    def _answer(self, request: Request) -> Iterator[str]:
        model, server = self.model, self._server
        answer = expected(model, request)
        reply = server.send(request)
        compare.adopt(model, server)
        compare.settle(model, server)
        yield from compare.answers(model, request, answer, reply)
        yield from compare.events(model, server)

    def _operate(self, operation: Operation) -> Iterator[str]:
        model, server = self.model, self._server
        model.begin("")
        if operation.name == "limits":
            model.rules = replace(model.rules, **operation.options)
            server.set_limits(model.rules)
            return
        if operation.name == "check":
            findings = server.check(**operation.options)
            if findings:
                yield f"check found {findings}"
            return
        if operation.name == "delete_expired":
            gone = model.delete_expired(**operation.options)
            mine: list[object] = [*sorted(one.id or "" for one in gone)]
            theirs: list[object] = [*sorted(server.delete_expired(**operation.options))]
        else:
            mine = [(one.id, done) for one, done in model.deliver_pending()]
            theirs = list(server.deliver_pending())
        if mine != theirs:
            yield f"{operation.name}: {theirs}, model {mine}"

    def _stored(self) -> Iterator[str]:
        yield from compare.rows(self.model, self._server)
        yield from compare.quotas(self.model, self._server)
        yield from compare.lists(self.model, self._server)
        for owner in OWNERS:
            for query in ({"status": "all"}, {"status": "all", "partial": "1"}):
                request = Request("GET", f"{PREFIX}/", {USER: owner}, query=query)
                yield from self._answer(request)
        findings = self._server.check(repair=False)
        if findings:
            yield f"check found {findings}"

    def _report(self, found: list[str]) -> str:
        text = "\n".join(found)
        ids = [one.id for one in self.model.uploads if one.id and one.id in text]
        last = str(self.steps[-1])
        ids = ids or [one.id for one in self.model.uploads if one.id and one.id in last]
        steps = list(enumerate(self.steps))
        told = [
            (index, step)
            for index, step in steps[:-1]
            if any(upload_id in str(step) for upload_id in ids)
        ]
        shown = (told or steps[:-1])[-SHOWN:] + steps[-1:]
        return "\n".join(
            [
                f"seed {self._seed}, request {len(self.steps) - 1}:",
                *found,
                f"rules: {self.model.rules}",
                *(f"  {index}: {step}" for index, step in shown),
                "repeat: " + repeat(self._seed, len(self.steps)),
            ]
        )


def expected(model: Model, request: Request) -> Answer:
    """What the model answers."""
    call = call_of(model, request)
    is_tus = "Tus-Resumable" in request.headers or call.method == "PATCH"
    return tus_roads.answer(call) if is_tus else range_roads.answer(call)


def repeat(seed: int, steps: int) -> str:
    """The command that takes these steps again, and no more."""
    return (
        f"GATE_SEEDS=1 GATE_STEPS={steps} python -m pytest -q --seed {seed} "
        "tests/gate/test_fuzz.py"
    )


def run(seed: int, tmp: Path, steps: int) -> None:
    """A seed; where it fails, once more with a look after each request.

    :raises Difference: model and server differ.
    """
    tmp.mkdir()
    # Each look is a request for each upload there.
    every = EVERY * 3 if os.environ.get(STORAGE) == "s3" else EVERY
    try:
        _run(seed, tmp / "first", steps, every)
    except Difference as error:
        if every > 1:
            _run(seed, tmp / "again", steps, 1)
        raise AssertionError(f"once, and not when repeated: {error}") from error


def _run(seed: int, tmp: Path, steps: int, every: int) -> None:
    tmp.mkdir()
    here = Run(seed, tmp, every)
    try:
        here.go(steps)
    finally:
        here.close()
