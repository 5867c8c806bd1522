"""I8 to I10: what must hold for whoever looks from outside, while faults go on.

I8 only documented statuses are answered, never a traceback or anything of the inside.
I9 a process's own memory stays below its baseline and 16 MiB for each active request.
I10 a stranger can neither read nor list an upload, nor tell it from one that never was.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

#: What the protocols' pages list; 500 and 502 are in none of them.
DOCUMENTED = frozenset(
    [
        *(200, 201, 204, 206, 304),
        *(400, 401, 403, 404, 405, 409, 410, 411, 412, 413, 415, 416, 422, 423),
        *(429, 460, 503, 507),
    ]
)
#: What only those who run the server may see.
_INSIDE = re.compile(
    rb"Traceback|sqlalchemy|psycopg|sqlite3|OperationalError|File \"|\.py\b|/instance/",
    re.IGNORECASE,
)
#: Bytes that an active request may add to its process.
PER_REQUEST = 16 * 2**20
#: Headers that differ from answer to answer for everybody.
_PASSING = ("date", "server", "connection", "keep-alive")


@dataclass(frozen=True)
class Answer:
    """What a client got, whatever library asked."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def shown(self) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
        """All that one could tell two answers apart by."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        kept = (pair for pair in headers.items() if pair[0] not in _PASSING)
        return self.status, self.body, tuple(sorted(kept))


class Answers:
    """I8: drivers hand it every answer that any client gets; for many threads."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def hear(self, asked: str, answer: Answer) -> None:
        """Judge one answer.

        :param asked: the request, for the message.
        """
        problem = _undocumented(answer)
        with self._lock:
            self.statuses[answer.status] += 1
            if problem:
                self.problems.append(f"I8: {asked}: {answer.status}: {problem}")


def _undocumented(answer: Answer) -> str:
    names = {name.lower(): value for name, value in answer.headers.items()}
    if answer.status not in DOCUMENTED:
        return f"not documented: {answer.body[:200]!r}"
    if answer.status == 503 and not names.get("retry-after", "").isdigit():
        return "says not when to come again"
    if answer.status >= 400 and _INSIDE.search(answer.body):
        return f"shows the inside: {answer.body[:200]!r}"
    return ""


# -- memory ----------------------------------------------------------------------------


def own_memory(pid: int) -> int:
    """Bytes of a process that are no file's: what it has allocated.

    :raises ProcessLookupError: it has ended.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        # A zombie has none.
        raise ProcessLookupError(pid)
    return int(found[1]) * 1024


def broken_memory(pid: int, baseline: int, active: int) -> list[str]:
    """I9, now.

    :param baseline: bytes at rest, or those of the process that it was forked from.
    :param active: the most requests that it may be working on.
    """
    try:
        used = own_memory(pid)
    except ProcessLookupError:
        return []
    allowed = baseline + active * PER_REQUEST
    if used <= allowed:
        return []
    return [f"I9: process {pid} uses {used} bytes, {allowed} with {active} requests"]


# -- privacy ---------------------------------------------------------------------------

#: Asks as the stranger: method, path, headers, body. ``None``: no answer at all.
Ask = Callable[[str, str, Mapping[str, str], bytes], "Answer | None"]

_TUS = {"Tus-Resumable": "1.0.0"}
_OCTETS = {"Content-Type": "application/octet-stream"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_ATTEMPTS: tuple[tuple[str, str, Mapping[str, str], bytes], ...] = (
    ("GET", "", {}, b""),
    ("HEAD", "", {}, b""),
    ("GET", "/file", {}, b""),
    ("PUT", "", {**_OCTETS, "Content-Range": "bytes 0-0/9"}, b"x"),
    ("POST", "", _FORM, b"md5=0cc175b9c0f1b6a831c399e269772661"),
    ("DELETE", "", {}, b""),
    ("HEAD", "", _TUS, b""),
    (
        "PATCH",
        "",
        {
            **_TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
        },
        b"x",
    ),
    ("DELETE", "", _TUS, b""),
)


def broken_privacy(ask: Ask, collection: str, foreign: UUID) -> list[str]:
    """I10: a stranger asks for somebody's upload, for none and for nonsense.

    :param collection: path of all uploads, without the slash at its end.
    :param foreign: an upload that exists and is not the stranger's.
    """
    found = []
    for method, rest, headers, body in _ATTEMPTS:
        answers = [
            ask(method, f"{collection}/{name}{rest}", headers, body)
            for name in (str(foreign), str(uuid4()), "no-id-at-all")
        ]
        got = [one for one in answers if one is not None and one.status != 503]
        asked = f"{method} ...{rest} {'of tus' if 'Tus-Resumable' in headers else ''}"
        if any(one.status != 404 for one in got):
            found.append(f"I10: {asked} of a stranger: {[one.status for one in got]}")
        if len({one.shown for one in got}) > 1:
            found.append(f"I10: {asked} differs: {[one.shown for one in got]}")
    listed = ask("GET", f"{collection}/", {}, b"")
    if listed is not None and listed.status == 200 and listed.body.strip() != b"[]":
        found.append(f"I10: a stranger's list has {listed.body[:200]!r}")
    return found
