"""What a statement's text says about its writes.

Knows the beginnings of SQL statements; nothing of connections.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

#: Texts, quoted names and comments, in which words have no meaning.
_NOISE = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL)
#: A clause of SELECT that only locks rows.
_LOCKS = re.compile(r"\bfor\s+(no\s+key\s+)?update\b")
#: What a statement contains that changes rows.
_CHANGES = re.compile(r"\b(into|delete\s+from|update\b.*?\bset)\b", re.DOTALL)
_RETURNS_ROWS = re.compile(r"\breturning\b")
#: Statements that read, set options or control the transaction, by their first word.
_READS = re.compile(
    r"(select|with|values|table|show|explain|describe|desc|set|reset|use|pragma|begin|"
    r"start|savepoint|release|rollback|lock|unlock|declare|fetch|move|close)\b"
)
#: Statements that change the schema. No count of changed rows shows them.
_DEFINES = re.compile(r"(create|alter|drop|truncate|reindex)\b")


class StatementKind(Enum):
    """Whether a textual statement writes."""

    READS = "reads"
    MAY_WRITE = "may write"
    WRITES = "writes"


@lru_cache(maxsize=1024)
def kind_of(statement: str) -> StatementKind:
    """The kind of a statement, by its first word and the words in it."""
    text = _NOISE.sub(" ", statement.lower()).lstrip("( \t\r\n;")
    if _DEFINES.match(text):
        return StatementKind.WRITES
    is_plan = text.startswith("explain") and "analyze" not in text
    changes = not is_plan and _CHANGES.search(_LOCKS.sub(" ", text)) is not None
    if not changes and _READS.match(text):
        return StatementKind.READS
    # The database counts the changed rows only after the last row is read.
    if changes and _RETURNS_ROWS.search(text):
        return StatementKind.WRITES
    return StatementKind.MAY_WRITE
