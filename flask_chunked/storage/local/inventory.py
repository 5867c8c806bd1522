"""The inventory of the local storage: which uploads' files and stages it contains.

Knows a tree of directories and how uploads' files are named in it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone

from ..values import StoredItem
from .files import close_file
from .paths import Tree

#: ``StoredItem.piece`` of an unfinished name whose file may have both names.
SECOND_NAME = "second name"
#: The name of an upload's file, without its suffix: it ends in the id.
_STEM = re.compile(r"(?s:.+-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def list_items(tree: Tree, suffixes: tuple[str, str]) -> Iterator[StoredItem]:
    """Stages, and uploads' files with one of the suffixes, in no particular order.

    :param suffixes: of unfinished and of finished files.
    """
    try:
        root = tree.open_directory(())
    except FileNotFoundError:
        return
    yield from _walk(tree, root, (), suffixes)


def _walk(
    tree: Tree, fd: int, directories: tuple[str, ...], suffixes: tuple[str, str]
) -> Iterator[StoredItem]:
    """Items of one directory and of those below it; closes the descriptor."""
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                # An entry may have been removed since its name was read.
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        below = (*directories, entry.name)
                        yield from _enter(tree, fd, below, suffixes)
                        continue
                    item = _item(tree, directories, entry.name, status, suffixes)
                    if item is not None:
                        yield item
    finally:
        close_file(fd)


def _enter(
    tree: Tree, parent: int, directories: tuple[str, ...], suffixes: tuple[str, str]
) -> Iterator[StoredItem]:
    fd = tree.enter(parent, directories[-1])
    try:
        foreign = tree.is_root(fd)
    except OSError:
        close_file(fd)
        raise
    if foreign:
        # The directory is the root of another storage, which has its own check.
        close_file(fd)
        return
    yield from _walk(tree, fd, directories, suffixes)


def _item(
    tree: Tree,
    directories: tuple[str, ...],
    name: str,
    status: os.stat_result,
    suffixes: tuple[str, str],
) -> StoredItem | None:
    modified_at = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    if not stat.S_ISREG(status.st_mode):
        return None
    if directories == (tree.marker,):
        return StoredItem(name, status.st_size, modified_at, staged=True)
    stem, suffix = _split(name, suffixes)
    key = "/".join((*directories, stem))
    if not stem or not _is_utf8(key):
        return None
    # An upload's file has both names only if its writer died while finishing it.
    is_second = status.st_nlink > 1 and suffix == suffixes[0] != suffixes[1]
    piece = SECOND_NAME if is_second else None
    return StoredItem(key, status.st_size, modified_at, piece=piece)


def _split(name: str, suffixes: tuple[str, str]) -> tuple[str, str]:
    """An upload's file name without its suffix, and the suffix; else empty texts."""
    for suffix in suffixes:
        stem = name.removesuffix(suffix)
        if name.endswith(suffix) and _STEM.fullmatch(stem):
            return stem, suffix
    return "", ""


def _is_utf8(key: str) -> bool:
    """False for names of others that are no text; no key has them."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
