"""Prints the results of long commands as they come.

Knows rows and JSON; nothing of uploads.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import click

#: Seconds between two changes of the progress line.
INTERVAL = 0.1
#: Moves the cursor to the begin of the line and clears the line.
_CLEAR = "\r\x1b[K"


class Results:
    """A table, or a JSON list, that grows with each result. Use it in a ``with`` block.

    On a terminal, stderr shows how many things were examined.

    :param columns: title and width of each column; the last column's width is free.
    :param subject: what is examined, in the plural.
    """

    def __init__(
        self, columns: Sequence[tuple[str, int]], subject: str, *, as_json: bool
    ) -> None:
        self._columns = columns
        self._subject = subject
        self._as_json = as_json
        self._is_empty = True
        self._examined = 0
        self._shows_progress = sys.stderr.isatty()
        self._shown_at = 0.0

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear_progress()
        # An error that comes later leaves a list that can be parsed.
        if self._as_json and (kind is None or not self._is_empty):
            click.echo("[]" if self._is_empty else "\n]")

    def examine(self) -> None:
        """Count one more thing that was examined."""
        self._examined += 1
        now = time.monotonic()
        if self._shows_progress and now - self._shown_at >= INTERVAL:
            self._shown_at = now
            text = f"{_CLEAR}{self._examined} {self._subject}"
            click.echo(text, nl=False, err=True)

    def add(
        self, fields: Mapping[str, object], cells: Sequence[str], note: str | None
    ) -> None:
        """Print one result.

        :param fields: of the JSON object.
        :param cells: of the table's row.
        :param note: a line below the row.
        """
        self._clear_progress()
        if self._as_json:
            text = json.dumps(fields, indent=2).replace("\n", "\n  ")
            click.echo(f"{'[' if self._is_empty else ','}\n  {text}", nl=False)
        else:
            if self._is_empty:
                self._print([title for title, _ in self._columns])
            self._print(cells)
            if note is not None:
                click.echo(f"  {note}")
        self._is_empty = False

    def _print(self, cells: Sequence[str]) -> None:
        padded = [
            cell.ljust(width)
            for cell, (_, width) in zip(cells, self._columns, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())

    def _clear_progress(self) -> None:
        if self._shows_progress and self._shown_at:
            click.echo(_CLEAR, nl=False, err=True)
