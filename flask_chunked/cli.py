"""``flask chunked-uploads``: the maintenance functions as commands.

Exit codes: 0 success, 1 an error, a finding of ``check`` or a failure of ``deliver``,
2 wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import click
from flask import Flask
from flask.cli import AppGroup

from . import maintenance
from .engine.records import Upload
from .engine.states import Status
from .exceptions import ChunkedUploadError, MissingTableError, UnknownUpload
from .protocol.upload_id import parse_upload_id
from .schemas import format_utc

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
    """Remove unfinished uploads that were not continued in time."""
    with _readable_errors():
        if interactive and not dry_run:
            removed = list(_ask_and_delete(keep_records, blueprint))
        else:
            removed = maintenance.delete_expired(
                keep_records=keep_records, dry_run=dry_run, blueprint=blueprint
            )
    if as_json:
        _print_json([_as_dict(upload) for upload in removed])
        return
    if removed:
        _print_uploads(removed)
    verb = "would be removed" if dry_run else "removed"
    kept = ", records kept" if keep_records and not dry_run else ""
    click.echo(f"{len(removed)} expired upload(s) {verb}{kept}.")


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
@one_blueprint
@as_json
def deliver(older_than: float, blueprint: str | None, as_json: bool) -> None:
    """Deliver completion events that are still pending."""
    with _readable_errors():
        done = maintenance.deliver_pending(
            older_than=timedelta(seconds=older_than), blueprint=blueprint
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
    with _readable_errors():
        found = maintenance.check(repair=repair, blueprint=blueprint)
    left = [finding for finding in found if not finding.repaired]
    if as_json:
        _print_json(
            [
                {
                    "blueprint": f.blueprint,
                    "kind": f.kind,
                    "subject": f.subject,
                    "size": f.size,
                    "repaired": f.repaired,
                }
                for f in found
            ]
        )
    else:
        _print_table(
            ("KIND", "SUBJECT", "BYTES", "BLUEPRINT", "REPAIRED"),
            [
                (
                    f.kind,
                    f.subject,
                    str(f.size),
                    f.blueprint,
                    "yes" if f.repaired else "no",
                )
                for f in found
            ],
        )
        click.echo(f"{len(found)} finding(s), {len(found) - len(left)} repaired.")
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


def _ask_and_delete(keep_records: bool, blueprint: str | None) -> Iterable[Upload]:
    candidates = maintenance.delete_expired(
        keep_records=keep_records, dry_run=True, blueprint=blueprint
    )
    for upload in candidates:
        # The question goes to stderr, so that stdout has only the output of --json.
        if click.confirm(f"Remove {_label(upload)}?", err=True):
            removed = maintenance.expire_upload(upload.id, keep_record=keep_records)
            if removed is not None:
                yield removed


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


def _print_uploads(uploads: Sequence[Upload]) -> None:
    rows = [
        (
            str(upload.id),
            upload.status.value,
            _progress(upload),
            upload.last_activity_at.strftime("%Y-%m-%d %H:%M:%SZ"),
            "-" if upload.user is None else str(upload.user),
            upload.filename,
        )
        for upload in uploads
    ]
    _print_table(("ID", "STATUS", "PROGRESS", "LAST ACTIVITY", "USER", "NAME"), rows)


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
