"""Where the application wants a new upload's file: a directory, and a name's beginning.

Knows names and keys; nothing of hooks, and not how a storage stores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ..exceptions import InvalidPlace

#: Bytes of UTF-8 of one directory or name, and of a whole key. A file system takes 255
#: of a name, of which the id and the suffix need their share; the row takes 512.
MAX_SEGMENT = 150
MAX_KEY = 512


@dataclass(frozen=True, slots=True)
class Place:
    """Where a new upload's file is stored.

    :param directories: names of the directories below the root; ``None``: those of the
        storage.
    :param name: how the file's name begins, before a hyphen and the id; empty: with the
        id.
    """

    directories: tuple[str, ...] | None = None
    name: str = ""

    @classmethod
    def from_names(cls, directory: object, name: object) -> Place:
        """Check what an application returns.

        :param directory: names, joined by slashes; empty: the root; ``None``: the
            storage's own directories.
        :param name: ``None`` or empty: the name is the id.
        :raises InvalidPlace: a name could leave its directory, or is too long; the
            message says which one and why.
        """
        directories = None
        if directory is not None:
            text = _text(directory)
            directories = tuple(map(_segment, text.split("/"))) if text else ()
        return cls(directories, _segment(name) if name not in (None, "") else "")

    def key(self, upload_id: UUID, usual: str, prefix: str = "") -> str:
        """The key of an upload.

        :param usual: the storage's own directories; may be empty.
        :param prefix: precedes the directories.
        :raises InvalidPlace: the key is too long.
        """
        stem = f"{self.name}-{upload_id}" if self.name else str(upload_id)
        where = usual if self.directories is None else "/".join(self.directories)
        key = f"{prefix}{where}/{stem}" if where else f"{prefix}{stem}"
        if len(key.encode()) > MAX_KEY:
            raise InvalidPlace(
                f"the key {_quoted(key)} has more than {MAX_KEY} bytes of UTF-8; "
                "return fewer or shorter names"
            )
        return key


#: The storage's own layout.
USUAL = Place()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidPlace(f"{_quoted(value)} is {type(value).__name__}, not a text")
    return value


def _segment(value: object) -> str:
    """One name, checked."""
    name = _text(value)
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidPlace(
            f"{_quoted(name)} is no name of a file: it must not be empty, '.' or '..', "
            "nor contain a slash or a NUL character"
        )
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidPlace(f"{_quoted(name)} cannot be encoded as UTF-8") from error
    if size > MAX_SEGMENT:
        raise InvalidPlace(
            f"{_quoted(name)} has {size} bytes of UTF-8, but at most {MAX_SEGMENT} are "
            "allowed; shorten it"
        )
    return name


def _quoted(value: object) -> str:
    return ascii(value)[:200]
