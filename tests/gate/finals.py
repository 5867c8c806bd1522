"""Final uploads in the model: from their POST to the joined bytes."""

from __future__ import annotations

from tests.gate.model import HEAD, Model
from tests.gate.uploads import COMPLETE, PARTIAL, Refused, Upload


def require_members(model: Model, members: list[Upload]) -> None:
    """Refuse members that no final upload can be made of."""
    if any(one.kind != PARTIAL for one in members):
        raise Refused("not_a_partial")


def sum_of(members: list[Upload]) -> int | None:
    """Length of a final upload; ``None`` while a member's is not known."""
    known = [one.length for one in members if one.length is not None]
    return sum(known) if len(known) == len(members) else None


def least_of(members: list[Upload]) -> int:
    """Bytes that a final upload has at least."""
    return sum(
        len(one.content) if one.length is None else one.length for one in members
    )


def learn_length(model: Model, final: Upload) -> None:
    """Store the length of a waiting final upload, if its members tell it.

    A refusal of ``validate``, which is asked again, removes the final upload.
    """
    total = sum_of(final.members)
    if total is not None:
        model.declare(final, total)


def make(model: Model, final: Upload) -> None:
    """Join the members, if all of them are complete; a refusal removes the final."""
    if not final.may_be_made:
        return
    learn_length(model, final)
    if any(one.status != COMPLETE for one in final.members):
        return
    content = b"".join(one.content for one in final.members)
    try:
        model.authorize("complete", final)
        _inspect(model, final, content)
        model.append(final, content)
        model.complete(final)
    except Refused:
        if not final.gone:
            model.remove(final)
        raise
    model.drop_members(final)


def _inspect(model: Model, final: Upload, content: bytes) -> None:
    """Show the first bytes; members before these are copied already."""
    try:
        model.inspect(final, content, len(content))
    except Refused:
        copied = 0
        for member in final.members:
            if copied + member.offset >= min(HEAD, len(content)):
                break
            copied += member.offset
        if copied:
            model.told.append(("chunk_received", final, copied))
        raise


def make_waiting(model: Model, partial: Upload) -> None:
    """A partial upload is complete: it may have been the last member of finals.

    What goes wrong with a final upload is not its member's matter.
    """
    for final in model.waiting_for(partial):
        if model.is_over(final):
            continue
        try:
            make(model, final)
        except Refused:
            continue


def look(model: Model, final: Upload) -> None:
    """HEAD of a final upload that waits."""
    if not final.may_be_made:
        raise Refused("partial_missing")
    is_told = final.length is None and sum_of(final.members) is not None
    if is_told:
        learn_length(model, final)
