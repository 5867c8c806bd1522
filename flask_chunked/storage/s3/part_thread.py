"""A part on its way to S3 while the request goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import BinaryIO

from ..base import Part
from .spool import Spool


class Flight:
    """Sends a full temporary file in a thread of its own, and closes it at the end.

    :param send: gives the part that the file and its size became.
    """

    def __init__(self, send: Callable[[BinaryIO, int], Part], spool: Spool) -> None:
        self._send = send
        self._spool = spool
        self._part: Part | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._part = self._send(self._spool.file, self._spool.size)
        except Exception as error:
            self._failure = error

    def land(self) -> Part:
        """Wait until it is there.

        :raises Exception: what sending it raised; the next call sends it once more.
        """
        self._thread.join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._part is None:
            self._part = self._send(self._spool.file, self._spool.size)
        self._spool.close()
        return self._part

    def abandon(self) -> None:
        """Wait until nothing of it is on its way any more."""
        self._thread.join()
        self._spool.close()
