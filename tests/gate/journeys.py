"""Every road to a complete upload: what a client sends, request by request."""

from __future__ import annotations

from dataclasses import dataclass

from tests.gate.recorder import PARTIAL
from tests.gate.steps import (
    AFTER,
    BEFORE,
    FORM,
    FORM_QUERY,
    OVERRIDDEN,
    POST_FORM,
    POST_RAW,
    RAW,
    RAW_QUERY,
    Step,
    again,
    crashed,
    create,
    final,
    head,
    later,
    patch,
    post,
    put,
    refused,
    whole,
)
from tests.gate.traveller import Traveller


@dataclass(frozen=True, slots=True)
class Road:
    """One way from nothing to a complete upload.

    :param needs: hooks without which it leads nowhere; ``checksum``: one is wanted.
    :param moves_clock: its app is of no use to others.
    """

    name: str
    steps: tuple[Step, ...]
    needs: frozenset[str] = frozenset()
    moves_clock: bool = False

    @property
    def is_smooth(self) -> bool:
        """Is nothing refused on it, and nothing broken?"""
        return all(step.__name__ != "stumble" for step in self.steps)

    def travel(self, traveller: Traveller) -> None:
        """Send all of it."""
        for step in self.steps:
            step(traveller)


def _road(name: str, *steps: Step) -> Road:
    return Road(name, steps)


#: Of the Content-Range dialect alone.
CONTENT_RANGE = (
    _road("a body by PUT", put(), post()),
    _road("two bodies by PUT", put("half"), put(), post()),
    _road("the last byte by PUT", put("most"), put(), post()),
    _road("a form by PUT", put(way=FORM), post("form")),
    _road("two forms by PUT", put("half", FORM), put(way=FORM), post("form")),
    _road("a body, then a form", put("half"), put(way=FORM), post("json")),
    _road("a form, then a body", put("half", FORM), put(way=RAW), post("query")),
    _road(
        "forms by POST at the URL", put("half", POST_FORM), put(way=POST_FORM), post()
    ),
    _road(
        "bodies by POST at the URL", put("half", POST_RAW), put(way=POST_RAW), post()
    ),
    _road(
        "forms with upload_id before the file",
        put("half", BEFORE),
        put(way=BEFORE),
        post("collection"),
    ),
    _road(
        "forms with upload_id after the file",
        put("half", AFTER),
        put(way=AFTER),
        post("collection"),
    ),
    _road(
        "forms with upload_id in the query",
        put("half", FORM_QUERY),
        put(way=FORM_QUERY),
        post("collection"),
    ),
    _road(
        "bodies with upload_id in the query",
        put("half", RAW_QUERY),
        put(way=RAW_QUERY),
        post("collection"),
    ),
    _road("a whole form by POST", whole(form=True)),
    _road("a whole body by POST", whole(form=False)),
    _road(
        "PUT by method override", put("half", OVERRIDDEN), put(way=OVERRIDDEN), post()
    ),
    _road("chunk and completion repeated", put("half"), put(), again, post(), again),
    _road("a bare HEAD on the way", put("half"), head(bare=True), put(), post()),
    _road("verify refuses once, POST again", put(), refused(post(), "verify"), post()),
)

#: Of tus alone, with a length from the beginning.
TUS = (
    _road("create, PATCH", create(), patch()),
    _road("create, two PATCHes", create(), patch("half"), patch()),
    _road("create, the last byte by PATCH", create(), patch("most"), patch()),
    _road("creation with all bytes", create("rest")),
    _road("creation with some bytes", create("half"), patch()),
    _road(
        "checked PATCHes", create(), patch("half", checked="sha1"), patch(checked="md5")
    ),
    _road("checked creation with all bytes", create("rest", checked="sha1")),
    _road("checked creation with some bytes", create("half", checked="md5"), patch()),
    _road(
        "PATCHes without Content-Length", create(), patch("half", chunked=True), patch()
    ),
    _road("creation without Content-Length", create("rest", chunked=True)),
    _road("PATCH by method override", create(), patch("half", override=True), patch()),
    _road("HEAD on the way", create(), patch("half"), head(), patch()),
    _road("the last PATCH repeated", create(), patch("half"), patch(), again),
    _road("verify refuses once, HEAD", create(), refused(patch(), "verify"), head()),
    _road(
        "complete refused once, HEAD",
        create(),
        refused(patch(), "authorize complete"),
        head(),
    ),
)

#: The length comes late.
DEFERRED = (
    _road("length with all bytes", create(deferred=True), patch(declares=True)),
    _road(
        "length with the first bytes",
        create(deferred=True),
        patch("half", declares=True),
        patch(),
    ),
    _road(
        "length with the last bytes",
        create(deferred=True),
        patch("half"),
        patch(declares=True),
    ),
    _road(
        "length with an empty PATCH at the end",
        create(deferred=True),
        patch("half"),
        patch("rest"),
        patch("none", declares=True),
    ),
    _road(
        "length with an empty PATCH at the beginning",
        create(deferred=True),
        patch("none", declares=True),
        patch(),
    ),
    _road(
        "length after checked bytes",
        create(deferred=True),
        patch("rest", checked="sha1"),
        patch("none", declares=True),
    ),
    _road(
        "length with checked bytes",
        create(deferred=True),
        patch("half", checked="sha1"),
        patch("rest", checked="sha1", declares=True),
    ),
    _road(
        "length after a creation with all bytes",
        create("rest", deferred=True),
        patch("none", declares=True),
    ),
    _road(
        "length after a creation with some bytes",
        create("half", deferred=True),
        patch(declares=True),
    ),
    _road(
        "length after a checked creation with all bytes",
        create("rest", deferred=True, checked="md5"),
        patch("none", declares=True),
    ),
    _road(
        "length by PUT with all bytes, POST",
        create(deferred=True),
        put(),
        post(),
    ),
    _road(
        "length by PUT with the last bytes, POST",
        create(deferred=True),
        patch("half"),
        put(),
        post(),
    ),
    _road(
        "length by PUT with the last byte, HEAD",
        create(deferred=True),
        patch("most"),
        put(),
        head(),
    ),
    _road(
        "length by PUT with the first bytes, PATCH",
        create(deferred=True),
        put("half"),
        patch(),
    ),
    _road(
        "length by a form with the last bytes, POST",
        create(deferred=True),
        patch("half"),
        put(way=FORM),
        post(),
    ),
    _road(
        "length by a form with upload_id, PATCH",
        create(deferred=True),
        patch("half"),
        put("most", BEFORE),
        patch(),
    ),
)

#: One dialect begins and another one finishes.
MIXED = (
    _road("all by PUT, tus HEAD", put(), head()),
    _road("all by a form, tus HEAD", put("half", FORM), put(way=FORM), head()),
    _road("all by PUT, an empty PATCH", put(), patch("none")),
    _road("half by PUT, PATCH", put("half"), patch()),
    _road("half by a form, checked PATCH", put("half", FORM), patch(checked="md5")),
    _road("created by tus, PUT, POST", create(), put(), post()),
    _road("half by PATCH, PUT, POST", create(), patch("half"), put(), post()),
    _road("half by PATCH, PUT, tus HEAD", create(), patch("half"), put(), head()),
    _road(
        "half at creation, a form, POST", create("half"), put(way=FORM), post("json")
    ),
    _road("complete by PATCH, POST compares", create(), patch(), post()),
    _road("complete at creation, POST compares", create("rest"), post("form")),
    _road("complete by POST, tus HEAD", put(), post(), head()),
)

#: Partial uploads are no files: nothing is asked for them but ``authorize``.
PARTIALS = (
    _road("a partial, PATCH", create(name="a"), patch(name="a")),
    _road("a partial, creation with all bytes", create("rest", name="a")),
    _road("a partial, checked", create(name="a"), patch(name="a", checked="sha1")),
    _road(
        "a partial of deferred length",
        create(name="a", deferred=True),
        patch("half", name="a"),
        patch(name="a"),
        patch("none", name="a", declares=True),
    ),
    _road(
        "a partial completed by HEAD",
        create(name="a"),
        refused(patch(name="a"), "authorize complete", PARTIAL),
        head("a"),
    ),
)

_BOTH = (create("rest", name="a"), create("rest", name="b"))
_WAITING = (create(name="a"), create("half", name="b"), final("a", "b"))
_DEFERRED = (
    create(name="a", deferred=True),
    create("half", name="b", deferred=True),
    final("a", "b"),
)

#: Final uploads: made by their own POST, or by what happens to their members.
FINALS = (
    _road("a final of complete members", *_BOTH, final("a", "b")),
    _road("a final of one member", *_BOTH, final("a")),
    _road("a final of repeated members", *_BOTH, final("b", "a", "b")),
    _road("two finals of the same members", *_BOTH, final("a", "b"), final("b", "a")),
    _road("a final completed by PATCH", *_WAITING, patch(name="a"), patch(name="b")),
    _road(
        "a final completed by a checked PATCH",
        *_WAITING,
        patch(name="b", checked="sha1"),
        patch("half", name="a", checked="md5"),
        patch(name="a", checked="md5"),
    ),
    _road(
        "a final completed by HEAD of a member",
        *_WAITING,
        patch(name="a"),
        refused(patch(name="b"), "authorize complete", PARTIAL),
        head("b"),
    ),
    _road(
        "two finals completed by one PATCH",
        *_WAITING,
        final("b"),
        patch(name="a"),
        patch(name="b"),
    ),
    _road(
        "a final of a repeated member that waits",
        create(name="a"),
        final("a", "a"),
        patch(name="a"),
    ),
    _road(
        "a final of deferred members, length with the last bytes",
        *_DEFERRED,
        patch(name="a", declares=True),
        patch(name="b", declares=True),
    ),
    _road(
        "a final of deferred members, length with empty PATCHes",
        *_DEFERRED,
        patch(name="a"),
        patch("none", name="a", declares=True),
        patch(name="b"),
        patch("none", name="b", declares=True),
    ),
    _road(
        "a final of deferred members, all lengths before the bytes",
        *_DEFERRED,
        patch("none", name="a", declares=True),
        patch("none", name="b", declares=True),
        patch(name="b"),
        patch(name="a"),
    ),
    _road(
        "a final of deferred members, HEAD when all lengths are known",
        *_DEFERRED,
        head("final 0"),
        patch("none", name="a", declares=True),
        patch("none", name="b", declares=True),
        head("final 0"),
        patch(name="b"),
        patch(name="a"),
    ),
    _road(
        "a final of deferred members that are complete",
        create(name="a", deferred=True),
        create(name="b"),
        patch(name="a"),
        patch("none", name="a", declares=True),
        patch(name="b"),
        final("a", "b"),
    ),
    Road(
        "a final compared by POST",
        (*_BOTH, final("a", "b"), post(name="final 0")),
        needs=frozenset({"checksum"}),
    ),
)


def _idle(what: str, needs: frozenset[str]) -> Road:
    """A process dies over the final upload, and HEAD goes on with it."""
    steps = (
        *_WAITING,
        patch(name="a"),
        crashed(patch(name="b"), what),
        later,
        head("final 0"),
    )
    return Road(f"an idle final gone on with, died in {what}", steps, needs, True)


IDLE = tuple(
    _idle(what, frozenset({what.partition(" ")[0]}))
    for what in ("authorize complete", "inspect", "verify")
)

ROADS = (*CONTENT_RANGE, *TUS, *DEFERRED, *MIXED, *PARTIALS, *FINALS, *IDLE)
