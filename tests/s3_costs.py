"""What an upload costs in requests to S3: arithmetic that tests hold against a server.

For a client that is never silent in the middle of a body, so that the engine commits
after 32 MiB and at the end of each request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from flask_chunked.engine.stream import COMMIT_BYTES

#: Classes of requests as stores bill them.
PUTS = (
    "CreateMultipartUpload",
    "UploadPart",
    "UploadPartCopy",
    "PutObject",
    "CopyObject",
    "CompleteMultipartUpload",
)
GETS = ("GetObject", "HeadObject")
DELETES = ("DeleteObject", "AbortMultipartUpload")


@dataclass
class Cost:
    """Requests by S3's names, and bytes that pass more than once.

    :param sent_again: bytes sent as tails.
    :param fetched: bytes of tails that came back.
    """

    requests: Counter[str] = field(default_factory=Counter)
    sent_again: int = 0
    fetched: int = 0

    def count(self, names: Sequence[str]) -> int:
        """Requests of a class."""
        return sum(self.requests[name] for name in names)


def commits(length: int, chunk: int) -> list[list[int]]:
    """For each request, the offsets that it commits."""
    found = []
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        found.append([*range(start + COMMIT_BYTES, stop, COMMIT_BYTES), stop])
    return found


def cost_of(length: int, part: int, chunk: int) -> Cost:
    """Of one upload, completed.

    :param length: bytes of the file.
    :param part: bytes of a part.
    :param chunk: bytes of a request's body.
    """
    cost = Cost()
    add = cost.requests
    parts = tail = 0
    for offsets in commits(length, chunk):
        if tail:
            add["GetObject"] += 1
            cost.fetched += tail
        for offset in offsets:
            new = offset // part - parts
            add["UploadPart"] += new
            parts += new
            if tail:
                add["DeleteObject"] += 1
            tail = offset % part
            if tail:
                add["PutObject"] += 1
                cost.sent_again += tail
    # Is it there already, is it there now?
    add["HeadObject"] += 2
    if parts:
        add["CreateMultipartUpload"] += 1
        add["UploadPartCopy"] += bool(tail)
        add["CompleteMultipartUpload"] += 1
    elif tail:
        add["CopyObject"] += 1
    else:
        add["PutObject"] += 1
    add["DeleteObject"] += bool(tail)
    cost.requests = +add
    return cost
