"""Upload a file in chunks, and go on after every interruption.

``python examples/resume_with_requests.py http://127.0.0.1:5000/uploads/ FILE [URL]``

Prints the upload's URL first. Started again with that URL, it goes on where the server
says the upload stands.

What another try may mend is tried again, after pauses that grow to a minute or are as
long as the server asks for, until an hour has passed without progress. All else ends
the program at once, with what the server says and exit code 1. Needs only ``requests``.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

CHUNK_SIZE = 4 * 2**20
#: Seconds without progress after which the program gives up.
PATIENCE = 3600.0
#: Seconds of the first pause and of the longest that the server does not ask for.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
#: Statuses that another try may mend. 507 is none of them: the server has no room.
TEMPORARY = {408, 409, 423, 425, 429, *range(500, 600)} - {507}


class Failed(Exception):
    """A request that failed and may succeed later.

    :param retry_after: seconds that the server asks the client to wait.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(Exception):
    """An answer that stays the same however often the server is asked."""


class GaveUp(Exception):
    """There was no progress for too long."""


class Pauses:
    """Pauses between tries, which grow until there is progress.

    :param patience: seconds without progress that are waited in all.
    """

    def __init__(
        self,
        patience: float = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """There is progress."""
        self._since = self._clock()
        self._pause = FIRST_PAUSE

    def wait(self, failure: Failed) -> None:
        """Wait for the next try.

        :raises GaveUp: it would come too late.
        """
        pause = max(self._pause, failure.retry_after)
        if self._clock() + pause - self._since > self._patience:
            raise GaveUp(f"no progress for {self._patience:.0f} seconds: {failure}")
        print(f"{failure}; next try in {pause:g} seconds", file=sys.stderr)
        self._sleep(pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class Upload:
    """A file on its way to the server.

    :param endpoint: URL of the collection of uploads.
    :param url: of an upload that was begun before.
    :param chunk_size: bytes of one request.
    """

    def __init__(
        self,
        session: requests.Session,
        endpoint: str,
        path: Path,
        url: str | None,
        chunk_size: int,
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._path = path
        self._chunk_size = chunk_size
        self._size = path.stat().st_size
        self.url = url
        #: Bytes that the server has; ``None``: it has to be asked.
        self.offset = 0 if url is None else None
        #: The JSON of the finished upload.
        self.answer: dict[str, Any] | None = None

    def step(self) -> None:
        """Send the request that is next.

        :raises Failed: it may be sent again, once the offset was asked for.
        :raises Refused: it must not be sent again.
        """
        if self.url is not None and self.offset is None:
            self.offset = self._ask_offset(self.url)
        elif self.url is None or (self.offset or 0) < self._size:
            self._send_chunk(self.offset or 0)
        else:
            data = {"md5": self._digest}
            self.answer = fields_of(self._ask("POST", self.url, data=data, timeout=300))

    def _ask_offset(self, url: str) -> int:
        answer = self._ask("HEAD", url)
        offset = answer.headers.get("Upload-Offset", "")
        if not offset.isdecimal():
            raise Failed(f"{answer.status_code}, but without an offset")
        return int(offset)

    def _send_chunk(self, offset: int) -> None:
        with self._path.open("rb") as source:
            source.seek(offset)
            chunk = source.read(min(self._chunk_size, self._size - offset))
        if len(chunk) < min(self._chunk_size, self._size - offset):
            raise Refused(f"{self._path} is shorter than it was")
        end = offset + len(chunk) - 1
        name = quote(self._path.name)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Range": f"bytes {offset}-{end}/{self._size}",
        }
        if not self._size:
            headers["Content-Range"] = "bytes */0"
        url = self.url or self._endpoint
        told = fields_of(self._ask("PUT", url, data=chunk, headers=headers))
        if self.url is None:
            self.url = str(told["url"])
            print(self.url, flush=True)
        if chunk and told["offset"] <= offset:
            raise Failed("the server stored nothing of a chunk")
        self.offset = told["offset"]

    def _ask(
        self, method: str, url: str, timeout: float = 30, **how: Any
    ) -> requests.Response:
        """A good answer."""
        try:
            answer = self._session.request(method, url, timeout=timeout, **how)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise Failed(f"no answer: {str(error)[:200]}") from error
        except requests.RequestException as error:
            raise Refused(str(error)) from error
        if answer.ok:
            return answer
        body = json_of(answer)
        reason = f"{answer.status_code} {body.get('detail', answer.reason)}"
        if answer.status_code in TEMPORARY or "expected_offset" in body:
            later = answer.headers.get("Retry-After", "")
            raise Failed(reason, float(later) if later.isdecimal() else 0.0)
        raise Refused(reason)

    @cached_property
    def _digest(self) -> str:
        md5 = hashlib.md5(usedforsecurity=False)
        with self._path.open("rb") as source:
            while block := source.read(2**20):
                md5.update(block)
        return md5.hexdigest()


def json_of(answer: requests.Response) -> dict[str, Any]:
    """The answer's JSON object; empty where it is none, as a proxy's error page."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def fields_of(answer: requests.Response) -> dict[str, Any]:
    """The JSON of an upload.

    :raises Failed: it is something else, as the page of a network's login.
    """
    body = json_of(answer)
    if not isinstance(body.get("offset"), int) or "url" not in body:
        raise Failed(f"{answer.status_code}, but not from a server of uploads")
    return body


def upload(
    endpoint: str,
    path: Path,
    url: str | None = None,
    chunk_size: int = CHUNK_SIZE,
    pauses: Pauses | None = None,
) -> dict[str, Any]:
    """Send the file; returns the JSON of the finished upload.

    :param endpoint: URL of the collection of uploads.
    :param url: of an upload that was begun before.
    :param chunk_size: bytes of one request.
    :raises Refused: the server does not take it.
    :raises GaveUp: there was no progress for too long.
    """
    pauses = pauses or Pauses()
    most = -1
    with requests.Session() as session:
        sent = Upload(session, endpoint, path, url, chunk_size)
        while sent.answer is None:
            try:
                sent.step()
            except Failed as failure:
                # What arrived is kept, so ask where to go on.
                sent.offset = None
                pauses.wait(failure)
            if sent.offset is not None and sent.offset > most:
                most = sent.offset
                pauses.reset()
    return sent.answer


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    known = sys.argv[3] if len(sys.argv) == 4 else None
    try:
        done = upload(sys.argv[1], Path(sys.argv[2]), known)
    except (Refused, GaveUp, OSError) as error:
        raise SystemExit(f"not uploaded: {error}") from error
    print(f"complete: {done['filename']}, {done['offset']} bytes")
