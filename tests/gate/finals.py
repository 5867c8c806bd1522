"""Final uploads in the model: from their POST to the joined bytes."""

from __future__ import annotations

from tests.gate.model import COMPLETE, EXPIRED, PARTIAL, Model, Refused, Upload

#: Final uploads that may wait for one partial upload.
MOST_WAITING = 8


def require_members(model: Model, members: list[Upload]) -> None:
    """Refuse members that no final upload can be made of."""
    for member in dict.fromkeys(members):
        if member.status == EXPIRED:
            raise Refused("unknown_upload")
        if member.kind != PARTIAL:
            raise Refused("not_a_partial")
    for member in dict.fromkeys(members):
        waits = any(one.status != COMPLETE for one in members)
        if waits and len(model.waiting_for(member)) >= MOST_WAITING:
            raise Refused("too_many_finals")


def make(model: Model, final: Upload) -> None:
    """Join the members, if all of them are complete; a refusal removes the final."""
    if not all(one.status == COMPLETE and not one.gone for one in final.members):
        return
    content = b"".join(one.content for one in final.members)
    try:
        model.authorize("complete", final)
        model.append(final, content)
        model.complete(final)
    except Refused:
        if not final.gone:
            model.remove(final)
        raise
    if not model.rules.keep_partials:
        _drop_members(model, final)


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


def _drop_members(model: Model, final: Upload) -> None:
    for member in dict.fromkeys(final.members):
        if not member.gone and not model.waiting_for(member):
            model.remove(member)
