"""The states of an upload and what may happen in each, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class Status(str, Enum):
    """The state of an upload; the database stores the value."""

    UPLOADING = "uploading"
    COMPLETING = "completing"
    COMPLETE = "complete"
    EXPIRED = "expired"


class Event(Enum):
    """What a request or the clock does to an upload."""

    APPEND = "append"
    TAKE_OVER = "take over"
    BEGIN_COMPLETION = "begin completion"
    REFUSE_COMPLETION = "refuse completion"
    COMPLETE = "complete"
    FINISH = "finish"
    TERMINATE = "terminate"
    EXPIRE = "expire"


#: (current state, event) -> next state; ``None``: the row is deleted. Every other pair
#: is refused.
TRANSITIONS: Mapping[tuple[Status, Event], Status | None] = MappingProxyType(
    {
        (Status.UPLOADING, Event.APPEND): Status.UPLOADING,
        (Status.UPLOADING, Event.TAKE_OVER): Status.UPLOADING,
        (Status.UPLOADING, Event.BEGIN_COMPLETION): Status.COMPLETING,
        # The process of the first completion died, or two completions run concurrently.
        (Status.COMPLETING, Event.BEGIN_COMPLETION): Status.COMPLETING,
        (Status.COMPLETING, Event.REFUSE_COMPLETION): Status.UPLOADING,
        (Status.COMPLETING, Event.COMPLETE): Status.COMPLETE,
        # The file is finished already, and no hook is pending.
        (Status.UPLOADING, Event.FINISH): Status.COMPLETE,
        (Status.UPLOADING, Event.TERMINATE): None,
        (Status.COMPLETING, Event.TERMINATE): None,
        (Status.COMPLETE, Event.TERMINATE): None,
        (Status.EXPIRED, Event.TERMINATE): None,
        # Unless the record is kept, the row of an upload that expires is deleted.
        (Status.UPLOADING, Event.EXPIRE): Status.EXPIRED,
        (Status.COMPLETING, Event.EXPIRE): Status.EXPIRED,
        # A partial upload is material even when it is complete (gate.py).
        (Status.COMPLETE, Event.EXPIRE): Status.EXPIRED,
    }
)


#: The unfinished states, as the database stores them.
UNFINISHED = (Status.UPLOADING.value, Status.COMPLETING.value)


def sources(event: Event) -> tuple[Status, ...]:
    """The states in which the event is allowed."""
    return tuple(status for status, happens in TRANSITIONS if happens is event)


def target(event: Event) -> Status:
    """The state that the event leads to. A termination leads to none."""
    goals = {to for (_, happens), to in TRANSITIONS.items() if happens is event}
    (goal,) = (to for to in goals if to is not None)
    return goal
