"""The transition table, as data."""

from __future__ import annotations

import pytest

from flask_chunked.engine.states import TRANSITIONS, Event, Status, sources, target


@pytest.mark.parametrize("event", list(Event))
def test_every_event_has_one_target_and_a_source(event: Event) -> None:
    assert sources(event)
    assert target(event) in Status


@pytest.mark.parametrize("event", [Event.APPEND, Event.TAKE_OVER])
def test_only_an_open_upload_takes_bytes(event: Event) -> None:
    assert sources(event) == (Status.UPLOADING,)


def test_a_complete_upload_can_only_be_terminated_or_expire_as_a_partial() -> None:
    possible = {event for status, event in TRANSITIONS if status is Status.COMPLETE}
    assert possible == {Event.TERMINATE, Event.EXPIRE}


def test_nothing_leaves_termination() -> None:
    goals = {
        to for (status, _), to in TRANSITIONS.items() if status is Status.TERMINATING
    }
    assert goals == {Status.TERMINATING}
