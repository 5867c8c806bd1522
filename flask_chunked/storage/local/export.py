"""Moving a finished file out of the local storage."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from .files import (
    CREATE_NEW,
    READ,
    close_file,
    open_at,
    sync_data,
    sync_directory,
    sync_parent,
)
from .paths import Tree


def move_file(tree: Tree, directories: Sequence[str], name: str, target: str) -> None:
    """Rename a file out of the tree, or copy it if the target is on another medium.

    :param target: absolute path; an existing file is replaced.
    """
    directory = tree.open_directory(directories)
    try:
        try:
            os.replace(name, target, src_dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_file(open_at(directory, name, READ), target, durable=tree.durable)
        if tree.durable:
            sync_parent(target)
        # Only after the sync of the target. The name still exists if the file was
        # copied, and also if both names were links to one file.
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        if tree.durable:
            sync_directory(directory)
    finally:
        close_file(directory)


def _copy_file(fd: int, target: str, *, durable: bool) -> None:
    """Copy to a hidden name next to the target, then rename; closes the descriptor."""
    temporary = os.path.join(os.path.dirname(target), f".{uuid4().hex}.moving")
    try:
        with (
            os.fdopen(fd, "rb") as source,
            os.fdopen(os.open(temporary, CREATE_NEW, 0o600), "wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1024 * 1024)
            copy.flush()
            if durable:
                sync_data(copy.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
