"""Where the answers differ on purpose: the only places where they may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: A field that an answer does not have.
ABSENT = "<absent>"
#: Answer with the JSON of an upload, or with nothing to compare.
FINE = (200, None)

OWNER_REQUIRED = "Upload requires user authentication but user cannot be determined"

#: The keys of an upload's JSON there; here are ``digest`` and ``length`` as well.
UPLOAD_KEYS = [
    "completed_at",
    "created_at",
    "file",
    "filename",
    "id",
    "offset",
    "status",
    "url",
    "user",
]


class Difference(NamedTuple):
    """One field of the answer to one step; or the ``answer``, as status and detail."""

    step: str
    field: str
    original: Any
    ours: Any


#: (field, original, ours) of any answer that has the field.
EVERYWHERE: list[tuple[str, Any, Any]] = [
    # No storage path is ever shown; downloads are off here, as by default.
    ("file", "<path>", None),
    ("code", ABSENT, "<code>"),
    ("length", ABSENT, "<length>"),
    ("digest", ABSENT, "<digest>"),
    ("digest", ABSENT, None),
    # Of the items of a list.
    ("keys", UPLOAD_KEYS, sorted([*UPLOAD_KEYS, "digest", "length"])),
]


def _answer(step: str, original: object, ours: object) -> Difference:
    return Difference(step, "answer", original, ours)


def _unknown(*steps: str) -> Iterator[Difference]:
    for name in steps:
        yield Difference(
            name, "detail", "No ChunkedUpload matches the given query.", "Not found."
        )


def _form_style(*steps: str) -> Iterator[Difference]:
    for name in steps:
        yield Difference(name, "expires", ABSENT, None)
        yield Difference(name, "upload_id", ABSENT, "<id>")


#: Reason -> what differs for it.
DIFFERENCES: Mapping[str, list[Difference]] = {
    "a refused header says what was expected": [
        Difference("no range", "reason", ABSENT, "Content-Range: missing on a chunk"),
        Difference(
            "bad range",
            "reason",
            ABSENT,
            "Content-Range: expected 'bytes START-END/TOTAL'",
        ),
        Difference(
            "open range",
            "reason",
            ABSENT,
            "Content-Range: expected 'bytes START-END/TOTAL'",
        ),
    ],
    "unknown, malformed and foreign ids get one answer, without the model's name": [
        *_unknown("show unknown", "append unknown", "complete unknown"),
        *_unknown("carl shows", "carl appends", "carl completes"),
        *_unknown("nobody shows", "nobody appends", "nobody completes"),
        _answer("append malformed", (500, None), (404, "Not found.")),
    ],
    "a POST to the collection tells django-chunked-upload's clients what they know": [
        *_form_style("whole", "whole unchecked", "finished of emma", "kept"),
    ],
    "END = TOTAL is behind the end": [
        _answer(
            "end is total",
            FINE,
            (400, "End of chunk exceeds reported total (10 bytes)"),
        ),
    ],
    "the first chunk starts at 0": [
        _answer("starts at 50", FINE, (400, "Offsets do not match")),
    ],
    "completion needs all bytes": [
        _answer(
            "ten of a hundred",
            FINE,
            (400, "Upload is incomplete: 10 of 100 bytes received"),
        ),
        _answer(
            "half unchecked",
            FINE,
            (400, "Upload is incomplete: 5 of 10 bytes received"),
        ),
    ],
    "TOTAL is that of the first chunk": [
        _answer(
            "total grows",
            FINE,
            (400, "Total of the upload is 10 bytes but 999 reported"),
        ),
    ],
    "who is unknown may log in": [
        _answer(
            "nobody creates",
            (400, OWNER_REQUIRED),
            (401, OWNER_REQUIRED),
        ),
    ],
    "a failed whole-file POST leaves nothing": [
        Difference("list of fred", "items", [("a.bin", 1, 10), ("a.bin", 1, 10)], []),
        Difference("list of fred", "keys", UPLOAD_KEYS, ABSENT),
    ],
    "a repeat whose answer was lost gets it again": [
        _answer("chunk again", (400, "Offsets do not match"), FINE),
        _answer(
            "second completion",
            (400, 'Upload has already been marked as "complete"'),
            FINE,
        ),
        _answer(
            "last chunk after the end",
            (400, 'Upload has already been marked as "complete"'),
            FINE,
        ),
    ],
    "hex digests compare in any case": [
        _answer("capital letters", (400, "checksum does not match"), FINE),
    ],
    "empty files work": [
        _answer("empty", (400, "No chunk file was submitted"), FINE),
        _answer("empty by put", (400, "No chunk file was submitted"), FINE),
    ],
    "bad input is told, never a 500": [
        _answer("text", (500, None), (400, "No chunk file was submitted")),
        _answer("5,000 digits", (500, None), (400, "Error in request headers")),
        _answer("30 digits", FINE, (400, "Error in request headers")),
    ],
    "the filename is a name and no path": [
        Difference("path", "filename", "../../etc/passwd", "passwd"),
    ],
    "the part's own name will do": [
        _answer("no filename", (400, {"filename": ["This field is required."]}), FINE),
    ],
    "raw bodies work": [
        _answer(
            "raw",
            (415, 'Unsupported media type "application/octet-stream" in request.'),
            FINE,
        ),
    ],
    "PATCH is of tus, whose version it must name": [
        _answer("patch", (405, 'Method "PATCH" not allowed.'), (412, None)),
    ],
    "OPTIONS has an Allow header and no description of Django's": [
        _answer("options", FINE, (204, None)),
    ],
    "DELETE gives up": [
        _answer("delete", (405, 'Method "DELETE" not allowed.'), (204, None)),
    ],
    "no URL is redirected": [
        _answer("without slash", (301, None), FINE),
    ],
    "the list is of pending uploads, as the original's README promises": [
        Difference(
            "list has finished",
            "items",
            [("a.bin", 1, 5), ("a.bin", 2, 10)],
            [("a.bin", 1, 5)],
        ),
    ],
    "an expired upload is gone for every request": [
        _answer("late look", FINE, (410, "Upload has expired")),
        Difference("late list", "items", [("a.bin", 1, 5), ("a.bin", 2, 10)], []),
        Difference("late list", "keys", UPLOAD_KEYS, ABSENT),
    ],
}
