"""What ``check`` finds, and what became of its repair.

Knows nothing of how differences are found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from .exceptions import UnknownUpload
from .exceptions.base import describe_cause

logger = logging.getLogger("flask_chunked")


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference that ``check`` found.

    :param kind: orphan (bytes without a row), stage (a temporary file of a request that
        was killed), missing (a row without all its bytes), tail (bytes beyond the
        offset), leftover (bytes of an expired upload), half-removed (the row is
        deleted, the bytes are not), quota (an owner's quota row differs from the
        owner's uploads), unchecked (the check itself failed).
    :param subject: id of the upload, storage key, or owner; of ``unchecked`` also what
        could not be read: uploads, removals, quotas or files.
    :param size: number of bytes concerned.
    :param repaired: ``False``: the difference still exists.
    :param cause: why the repair, or the check, failed; ``None``: it did not.
    """

    blueprint: str
    kind: str
    subject: str
    size: int
    repaired: bool
    cause: str | None = None


#: Repairs a difference. ``False``: it no longer exists; ``None``: it cannot be repaired
#: now.
Repair = Callable[[], bool | None]


def unchecked(blueprint: str, subject: str, error: Exception) -> Finding:
    """The finding for something that could not be checked."""
    cause = describe_cause(error)
    logger.error("%s of %s cannot be checked: %s", subject, blueprint, cause)
    return Finding(blueprint, "unchecked", subject, 0, False, cause)


def repaired(finding: Finding, repair: Repair) -> Finding | None:
    """The finding after its repair; ``None``: the difference no longer exists."""
    try:
        done = repair()
    # Another process may have removed the upload meanwhile.
    except UnknownUpload:
        done = True
    # Whatever fails for one upload must not stop the others.
    except Exception as error:
        cause = describe_cause(error)
        logger.error("%s %s stays: %s", finding.kind, finding.subject, cause)
        return replace(finding, cause=cause)
    if done is False:
        return None
    return replace(finding, repaired=bool(done))
