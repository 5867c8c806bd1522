"""The show: a file goes through the balancer while a host dies and comes back."""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from .app import SERVED_BY
from .machines import Machines

MIB = 2**20
BLOCK = 2**16
#: Seconds until a host that came back is asked again.
PATIENCE = 30.0


@dataclass
class Seen:
    """What the client saw.

    :param chunks: host -> chunks that it took whole.
    :param again: host -> of these, after the killed one had come back.
    :param cuts: chunks that got no good answer.
    """

    killed: str = ""
    chunks: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    sent: str = ""
    stored: str = ""

    @property
    def is_well(self) -> bool:
        """All bytes are there, and every host had its share, before and after."""
        hosts_after = len(self.again) > 1 and self.again[self.killed] > 0
        return bool(self.sent) and self.sent == self.stored and hosts_after


class Slowly:
    """A chunk's bytes; something happens when half of them are sent."""

    def __init__(self, data: bytes, half: Callable[[], None] | None) -> None:
        self._data = data
        self._half = half
        self._position = 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, _size: int = -1) -> bytes:
        """The next block; requests asks for any size."""
        if self._half is not None and self._position >= len(self._data) // 2:
            happen, self._half = self._half, None
            happen()
        block = self._data[self._position : self._position + BLOCK]
        self._position += len(block)
        return block


class Show:
    """One upload of random bytes.

    :param size: bytes of the file.
    :param chunk: bytes of a request.
    :param tell: takes lines for the audience.
    """

    def __init__(
        self, machines: Machines, size: int, chunk: int, tell: Callable[[str], None]
    ) -> None:
        self.seen = Seen()
        self._machines = machines
        self._chunk = chunk
        self._tell = tell
        self._size = size
        self._content = random.Random(time.time_ns()).randbytes(size)
        self._url = machines.url + "uploads/"
        self._last = ""
        self._session = requests.Session()
        self._is_back = False

    def run(self) -> Seen:
        """Upload, kill, start again, complete, download."""
        with self._session:
            offset = self._send(0)
            while offset < self._size // 3:
                offset = self._send(offset)
            offset = self._send_while_a_host_dies(offset)
            while offset < self._size * 2 // 3:
                offset = self._send(offset)
            self._bring_back()
            while offset < self._size:
                offset = self._send(offset)
            self._complete()
            self._compare()
        return self.seen

    def _send(self, offset: int, half: Callable[[], None] | None = None) -> int:
        """PUT a chunk; the offset to go on at, whatever became of it."""
        data = self._content[offset : offset + self._chunk]
        stop = offset + len(data)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": 'attachment; filename="show.bin"',
            "Content-Range": f"bytes {offset}-{stop - 1}/{self._size}",
        }
        body: Any = Slowly(data, half)
        try:
            answer = self._session.put(self._url, data=body, headers=headers)
        except requests.ConnectionError as error:
            return self._ask(f"{type(error).__name__}")
        if answer.status_code != 200:
            return self._ask(f"{answer.status_code} {answer.reason}")
        state = answer.json()
        if not offset:
            self._url = state["url"]
        self._last = answer.headers[SERVED_BY]
        self.seen.chunks[self._last] += 1
        if self._is_back:
            self.seen.again[self._last] += 1
        self._tell(f"{self._last}  PUT   {_share(state['offset'], self._size)}")
        return int(state["offset"])

    def _ask(self, why: str) -> int:
        """HEAD: where to go on after a cut."""
        self.seen.cuts += 1
        self._tell(f"        PUT   {why}")
        answer = self._wait_for("the upload's offset", lambda answer: answer.ok)
        offset = int(answer.headers["Upload-Offset"])
        where = answer.headers[SERVED_BY]
        self._tell(f"{where}  HEAD  {_share(offset, self._size)}: going on from there")
        return offset

    def _wait_for(
        self, what: str, good: Callable[[requests.Response], bool]
    ) -> requests.Response:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self._session.head(self._url, timeout=10)
                if good(answer):
                    return answer
            except requests.RequestException:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain for {what}")
            time.sleep(0.1)

    def _send_while_a_host_dies(self, offset: int) -> int:
        # In turn: the next chunk goes to the one that did not take the last.
        (victim,) = (h for h in self._machines.hosts if h.name != self._last)

        def kill() -> None:
            time.sleep(0.2)
            self._tell(f"*** kill -9 {victim.name}, in the middle of this chunk")
            victim.kill()

        self.seen.killed = victim.name
        return self._send(offset, kill)

    def _bring_back(self) -> None:
        (dead,) = (h for h in self._machines.hosts if h.name == self.seen.killed)
        self._tell(f"*** {dead.name} comes back, without a word to anybody")
        dead.start_again()
        self._wait_for(
            f"{dead.name} behind the balancer",
            lambda answer: answer.headers.get(SERVED_BY) == dead.name,
        )
        self._is_back = True

    def _complete(self) -> None:
        digest = hashlib.md5(self._content, usedforsecurity=False).hexdigest()
        answer = self._session.post(self._url, data={"md5": digest}, timeout=300)
        answer.raise_for_status()
        self._tell(f"{answer.headers[SERVED_BY]}  POST  complete")

    def _compare(self) -> None:
        self.seen.sent = hashlib.sha256(self._content).hexdigest()
        stored = hashlib.sha256()
        with self._session.get(self._url + "/file", stream=True, timeout=60) as answer:
            answer.raise_for_status()
            for block in answer.iter_content(MIB):
                stored.update(block)
        self.seen.stored = stored.hexdigest()


def _share(offset: int, size: int) -> str:
    return f"{offset / MIB:7.1f} of {size / MIB:.0f} MiB"


def report(seen: Seen) -> str:
    """The end of the show, in words."""
    shares = ", ".join(f"{host} {n}" for host, n in sorted(seen.chunks.items()))
    equal = "equal" if seen.sent == seen.stored else "NOT EQUAL"
    return "\n".join(
        (
            f"chunks taken by {shares}; {seen.cuts} cut",
            f"SHA-256 sent    {seen.sent}",
            f"SHA-256 stored  {seen.stored}  {equal}",
        )
    )
