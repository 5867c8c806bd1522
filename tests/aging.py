"""Old rows and old files without waiting: times are set back."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

from flask import Flask
from sqlalchemy import case, update

from .apps import registered

LONG_AGO = timedelta(days=30)


def age_row(
    app: Flask, upload_id: UUID, by: timedelta = LONG_AGO, name: str = "uploads"
) -> None:
    """Set back when the upload was last active; it was created no later."""
    then = datetime.now(timezone.utc) - by
    c = registered(app, name).table.c
    created_at = case((c.created_at > then, then), else_=c.created_at)
    set_row(app, upload_id, name, last_activity_at=then, created_at=created_at)


def set_row(
    app: Flask, upload_id: UUID, name: str = "uploads", /, **values: object
) -> None:
    """Change columns behind everybody's back, as a crash would leave them."""
    here = registered(app, name)
    statement = update(here.table).where(here.table.c.id == upload_id).values(values)
    with app.app_context(), here.database.transaction() as connection:
        assert connection.execute(statement).rowcount == 1


def age_file(path: Path, by: timedelta = LONG_AGO) -> None:
    """Set back when the file was last written."""
    then = time.time() - by.total_seconds()
    os.utime(path, (then, then))
