"""The states of an upload and what may happen in each, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class Status(str, Enum):
    """Where an upload stands; the value is what the database stores."""

    UPLOADING = "uploading"
    COMPLETING = "completing"
    COMPLETE = "complete"
    TERMINATING = "terminating"
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


#: (where it stands, what happens) -> where it goes. What is not here is refused.
TRANSITIONS: Mapping[tuple[Status, Event], Status] = MappingProxyType(
    {
        (Status.UPLOADING, Event.APPEND): Status.UPLOADING,
        (Status.UPLOADING, Event.TAKE_OVER): Status.UPLOADING,
        (Status.UPLOADING, Event.BEGIN_COMPLETION): Status.COMPLETING,
        # A completion whose process died, or a second one beside the first.
        (Status.COMPLETING, Event.BEGIN_COMPLETION): Status.COMPLETING,
        (Status.COMPLETING, Event.REFUSE_COMPLETION): Status.UPLOADING,
        (Status.COMPLETING, Event.COMPLETE): Status.COMPLETE,
        # The finished file is there already, and nobody is asked anything more.
        (Status.UPLOADING, Event.FINISH): Status.COMPLETE,
        (Status.UPLOADING, Event.TERMINATE): Status.TERMINATING,
        (Status.COMPLETING, Event.TERMINATE): Status.TERMINATING,
        (Status.COMPLETE, Event.TERMINATE): Status.TERMINATING,
        (Status.EXPIRED, Event.TERMINATE): Status.TERMINATING,
        # A termination whose process died is carried out by the next one.
        (Status.TERMINATING, Event.TERMINATE): Status.TERMINATING,
        (Status.UPLOADING, Event.EXPIRE): Status.EXPIRED,
        (Status.COMPLETING, Event.EXPIRE): Status.EXPIRED,
        # A partial upload is material, also when all its bytes are there (gate.py).
        (Status.COMPLETE, Event.EXPIRE): Status.EXPIRED,
    }
)


#: As the database stores them: not all bytes are there, checked and announced.
UNFINISHED = (Status.UPLOADING.value, Status.COMPLETING.value)


def sources(event: Event) -> tuple[Status, ...]:
    """The states in which the event may happen."""
    return tuple(status for status, happens in TRANSITIONS if happens is event)


def target(event: Event) -> Status:
    """Where the event leads; each has exactly one goal."""
    (goal,) = {to for (_, happens), to in TRANSITIONS.items() if happens is event}
    return goal
