"""``flask chunked-uploads``: the maintenance functions as commands.

Exit codes: 0 success; 1 an error, a finding of ``check``, a failure of ``deliver``, an
upload that ``delete-expired`` cannot remove; 2 wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

import click
from flask import Flask
from flask.cli import AppGroup

from . import maintenance
from .cli_output import Results
from .engine.records import Upload
from .engine.states import Status
from .exceptions import ChunkedUploadError, MissingTableError, UnknownUpload
from .exceptions.base import describe_cause
from .protocol.upload_id import parse_upload_id
from .schemas import format_utc

#: Title and width of each column, for results that are printed as they come.
_UPLOAD_COLUMNS = (
    ("ID", 36),
    ("STATUS", 10),
    ("PROGRESS", 21),
    ("LAST ACTIVITY", 20),
    ("USER", 12),
    ("NAME", 0),
)
_FINDING_COLUMNS = (
    ("KIND", 12),
    ("SUBJECT", 36),
    ("BYTES", 12),
    ("BLUEPRINT", 12),
    ("REPAIRED", 0),
)

group = AppGroup("chunked-uploads", help="Manage chunked uploads.")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
one_blueprint = click.option(
    "--blueprint", metavar="NAME", help="Only uploads of this blueprint."
)


def add_commands(app: Flask) -> None:
    """Add the group to the app's command line, unless the app has it."""
    if group.name not in app.cli.commands:
        app.cli.add_command(group)


@group.command("delete-expired")
@click.option("-i", "--interactive", is_flag=True, help="Ask before each upload.")
@click.option(
    "-k", "--keep-records", is_flag=True, help="Remove the bytes, keep the records."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@one_blueprint
@as_json
def delete_expired(
    interactive: bool,
    keep_records: bool,
    dry_run: bool,
    blueprint: str | None,
    as_json: bool,
) -> None:
    """Remove unfinished uploads that were not continued in time.

    What cannot be removed is listed with the cause, and the command exits with 1.
    """

    def approve(upload: Upload) -> bool:
        # The question goes to stderr, so that stdout has only the output of --json.
        return click.confirm(f"Remove {_label(upload)}?", err=True)

    removed, left = 0, 0
    with (
        _readable_errors(),
        Results(_UPLOAD_COLUMNS, "uploads", as_json=as_json) as results,
    ):
        for one in maintenance.expiring(
            keep_records=keep_records,
            dry_run=dry_run,
            blueprint=blueprint,
            approve=approve if interactive and not dry_run else None,
        ):
            results.examine()
            removed, left = removed + (not one.error), left + bool(one.error)
            cause = None if one.error is None else describe_cause(one.error)
            known = _known_fields(one.blueprint, one.upload_id, one.upload)
            is_removed = one.error is None and not dry_run
            fields = {**known, "removed": is_removed, "error": cause}
            note = None if cause is None else f"STAYS: {cause}"
            results.add(fields, _upload_cells(one.upload, one.upload_id), note)
    if not as_json:
        verb = "would be removed" if dry_run else "removed"
        kept = ", records kept" if keep_records and not dry_run else ""
        stay = f", {left} cannot be removed" if left else ""
        click.echo(f"{removed} expired upload(s) {verb}{kept}{stay}.")
    if left:
        raise SystemExit(1)


@group.command("list")
@click.option(
    "--status",
    type=click.Choice([status.value for status in Status]),
    help="Only uploads in this state.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="List the partial uploads of concatenations instead of all others.",
)
@one_blueprint
@as_json
def list_uploads(
    status: str | None, partial: bool, blueprint: str | None, as_json: bool
) -> None:
    """List uploads."""
    with _readable_errors():
        wanted = None if status is None else Status(status)
        found = list(
            maintenance.uploads(blueprint=blueprint, status=wanted, partial=partial)
        )
    if as_json:
        _print_json([_as_dict(upload) for upload in found])
        return
    _print_uploads(found)
    click.echo(f"{len(found)} upload(s).")


@group.command("show")
@click.argument("upload_id", metavar="ID")
@as_json
def show(upload_id: str, as_json: bool) -> None:
    """Show one upload."""
    with _readable_errors():
        _, upload = maintenance.find(_parse_id(upload_id))
    fields = _as_dict(upload)
    if as_json:
        _print_json(fields)
        return
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        text = "-" if value is None else _printable(str(value))
        click.echo(f"{name:<{width}}  {text}")


@group.command("delete")
@click.argument("upload_id", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(upload_id: str, yes: bool) -> None:
    """Remove one upload, bytes and record."""
    with _readable_errors():
        _, upload = maintenance.find(_parse_id(upload_id))
        if not yes:
            click.confirm(f"Remove {_label(upload)}?", abort=True)
        maintenance.delete_upload(upload.id)
    click.echo(f"{upload.id} removed.")


@group.command("deliver")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Leave younger events to the requests that deliver them.",
)
@click.option(
    "--retry-now", is_flag=True, help="Do not wait after deliveries that failed."
)
@one_blueprint
@as_json
def deliver(
    older_than: float, retry_now: bool, blueprint: str | None, as_json: bool
) -> None:
    """Deliver completion events that are still pending.

    An event whose delivery failed waits for 1, 2, 4 and so on up to 60 minutes.
    """
    with _readable_errors():
        done = maintenance.deliver_pending(
            older_than=timedelta(seconds=older_than),
            retry_now=retry_now,
            blueprint=blueprint,
        )
    failed = [one for one in done if not one.delivered]
    if as_json:
        _print_json([{**_as_dict(d.upload), "delivered": d.delivered} for d in done])
    else:
        for one in done:
            result = "delivered" if one.delivered else "FAILED, still pending"
            click.echo(f"{_label(one.upload)}: {result}")
        click.echo(f"{len(done) - len(failed)} delivered, {len(failed)} failed.")
    if failed:
        raise SystemExit(1)


@group.command("check")
@click.option("--repair", is_flag=True, help="Repair what can be repaired safely.")
@one_blueprint
@as_json
def check(repair: bool, blueprint: str | None, as_json: bool) -> None:
    """Compare records with stored bytes and report the differences."""
    found, left = 0, 0
    with (
        _readable_errors(),
        Results(_FINDING_COLUMNS, "rows and files", as_json=as_json) as results,
    ):
        for finding in maintenance.checking(
            repair=repair, blueprint=blueprint, examined=results.examine
        ):
            found, left = found + 1, left + (not finding.repaired)
            cells = (
                finding.kind,
                finding.subject,
                str(finding.size),
                finding.blueprint,
                "yes" if finding.repaired else "no",
            )
            results.add(asdict(finding), cells, finding.cause)
    if not as_json:
        click.echo(f"{found} finding(s), {found - left} repaired.")
    if left:
        raise SystemExit(1)


# -- inside ----------------------------------------------------------------------------


class _readable_errors:
    """Prints errors that a user can cause as one line, and exits with 1.

    For wrong usage the exit code is 2.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, ChunkedUploadError):
            raise click.ClickException(error.detail) from error
        if isinstance(error, MissingTableError):
            raise click.ClickException(str(error)) from error
        if type(error) is LookupError:
            raise click.UsageError(str(error)) from error


def _parse_id(text: str) -> UUID:
    upload_id = parse_upload_id(text)
    if upload_id is None:
        raise UnknownUpload(f"{text[:40]!r} is not an upload id")
    return upload_id


def _label(upload: Upload) -> str:
    return f"{upload.id} ({upload.filename}, {_progress(upload)})"


def _progress(upload: Upload) -> str:
    total = "?" if upload.length is None else str(upload.length)
    return f"{upload.offset}/{total} bytes"


def _as_dict(upload: Upload) -> dict[str, object]:
    return {
        "id": str(upload.id),
        "blueprint": upload.blueprint,
        "user": None if upload.user is None else str(upload.user),
        "filename": upload.filename,
        "status": upload.status.value,
        "offset": upload.offset,
        "length": upload.length,
        "created_at": _format(upload.created_at),
        "last_activity_at": _format(upload.last_activity_at),
        "completed_at": _format(upload.completed_at),
        "delivered_at": _format(upload.delivered_at),
        "attempts": upload.attempts,
        "dialect": upload.dialect,
        "partial": upload.partial,
        "digest": upload.digest,
        "storage_key": upload.storage_key,
    }


def _format(moment: datetime | None) -> str | None:
    return None if moment is None else format_utc(moment)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _known_fields(
    blueprint: str, upload_id: UUID | None, upload: Upload | None
) -> dict[str, object]:
    if upload is not None:
        return _as_dict(upload)
    return {"id": upload_id and str(upload_id), "blueprint": blueprint}


def _upload_cells(upload: Upload | None, upload_id: UUID | None) -> tuple[str, ...]:
    if upload is None:
        return (str(upload_id or "-"), "-", "-", "-", "-", "-")
    return (
        str(upload.id),
        upload.status.value,
        _progress(upload),
        upload.last_activity_at.strftime("%Y-%m-%d %H:%M:%SZ"),
        "-" if upload.user is None else str(upload.user),
        upload.filename,
    )


def _print_uploads(uploads: Sequence[Upload]) -> None:
    rows = [_upload_cells(upload, upload.id) for upload in uploads]
    _print_table([title for title, _ in _UPLOAD_COLUMNS], rows)


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    shown = [titles, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(titles))]
    for row in shown:
        line = "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        )
        click.echo(line.rstrip())


def _printable(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return text if text.isprintable() else repr(text)[1:-1]
