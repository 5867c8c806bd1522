"""Sends a full part to S3 in a thread while the next one is received."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import BinaryIO

from ..values import Part
from .spool import Spool


class PartUpload:
    """One part that is being sent. It closes its temporary file when it is done.

    :param send: sends that many bytes of the file and returns the part.
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

    def result(self) -> Part:
        """Wait until the part is sent.

        :raises Exception: sending failed; the next call sends the part again.
        """
        self._thread.join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._part is None:
            self._part = self._send(self._spool.file, self._spool.size)
        self._spool.close()
        return self._part

    def cancel(self) -> None:
        """Wait until the thread has ended, and discard the part."""
        self._thread.join()
        self._spool.close()
