"""``flask chunked-uploads``: what it prints and how it exits."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import ChunkedUploadBlueprint

from .aging import age_file, age_row, set_row
from .apps import dispose, registered, rows, stored_files
from .conftest import AppFactory
from .exchange import begin, id_of, send


def run(app: Flask, *arguments: str, answer: str | None = None) -> Result:
    return app.test_cli_runner().invoke(
        args=["chunked-uploads", *arguments], input=answer, catch_exceptions=False
    )


def printed(app: Flask, *arguments: str, code: int = 0) -> Any:
    """What the command prints with ``--json``."""
    result = run(app, *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def begun(app: Flask, *, old: bool = False, url: str = "/uploads/") -> UUID:
    upload_id = id_of(
        begin(app.test_client(), b"abc", 6, url=url, fields={"filename": "a.mov"})
    )
    if old:
        age_row(app, upload_id)
    return upload_id


def finished(app: Flask) -> UUID:
    send(app.test_client(), b"abc")
    (row,) = (row for row in rows(app) if row.is_complete)
    return row.id


# -- the group -------------------------------------------------------------------------


def test_group_names_its_commands(app: Flask) -> None:
    result = run(app, "--help")
    assert result.exit_code == 0
    for command in ("delete-expired", "list", "show", "delete", "deliver", "check"):
        assert f"  {command} " in result.output


def test_group_is_there_once_whatever_is_registered(app: Flask) -> None:
    app.register_blueprint(ChunkedUploadBlueprint("more", __name__), url_prefix="/more")
    assert list(app.cli.commands).count("chunked-uploads") == 1
    assert run(app, "list").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["list", "--status", "asleep"], id="status"),
        pytest.param(["show"], id="no-id"),
        pytest.param(["deliver", "--older-than", "-1"], id="negative"),
        pytest.param(["frobnicate"], id="command"),
        pytest.param(["list", "--blueprint", "other"], id="list-blueprint"),
        pytest.param(["check", "--blueprint", "other"], id="check-blueprint"),
        pytest.param(
            ["delete-expired", "--blueprint", "other"], id="expired-blueprint"
        ),
        pytest.param(["deliver", "--blueprint", "other"], id="deliver-blueprint"),
    ],
)
def test_wrong_usage_exits_with_2(app: Flask, arguments: list[str]) -> None:
    result = run(app, *arguments)
    assert result.exit_code == 2
    assert "Error:" in result.stderr
    assert result.stdout == ""


def test_unknown_blueprint_names_the_known(app: Flask) -> None:
    assert "known: uploads" in run(app, "list", "--blueprint", "other").stderr


@pytest.mark.parametrize("command", ["show", "delete"])
@pytest.mark.parametrize(
    "name", [str(UUID(int=7, version=4)), "nothing", "../etc/passwd"]
)
def test_unknown_upload_exits_with_1_in_one_line(
    app: Flask, command: str, name: str
) -> None:
    result = run(app, command, name)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_missing_table_reads_as_one_line(tmp_path: Path) -> None:
    app = Flask("bare", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/bare.db"
    SQLAlchemy(app)
    app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))
    for command in ("list", "check", "delete-expired", "deliver"):
        result = run(app, command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "create_tables(app)" in result.stderr
    dispose(app)


# -- list and show ---------------------------------------------------------------------


def test_list_is_a_table(app: Flask) -> None:
    upload_id = begun(app)
    lines = run(app, "list").output.splitlines()
    titles = ["ID", "STATUS", "PROGRESS", "LAST ACTIVITY", "USER", "NAME"]
    places = [lines[0].index(title) for title in titles]
    assert places == sorted(places)
    cells = [
        lines[1][start:stop].strip()
        for start, stop in zip(places, [*places[1:], None], strict=True)
    ]
    assert cells[:3] == [str(upload_id), "uploading", "3/6 bytes"]
    assert cells[4:] == ["-", "a.mov"]
    assert datetime.strptime(cells[3], "%Y-%m-%d %H:%M:%SZ")
    assert lines[2:] == ["1 upload(s)."]


def test_empty_list_says_so(app: Flask) -> None:
    assert run(app, "list").output == "0 upload(s).\n"
    assert printed(app, "list") == []


def test_list_chooses_by_status_and_blueprint(app: Flask) -> None:
    app.register_blueprint(
        ChunkedUploadBlueprint("songs", __name__), url_prefix="/songs"
    )
    first, done = begun(app), finished(app)
    song = begun(app, url="/songs/")

    def ids(*arguments: str) -> set[str]:
        return {one["id"] for one in printed(app, "list", *arguments)}

    assert ids() == {str(first), str(done), str(song)}
    assert ids("--status", "complete") == {str(done)}
    assert ids("--status", "uploading") == {str(first), str(song)}
    assert ids("--blueprint", "songs") == {str(song)}


def test_show_prints_every_line_or_json(app: Flask) -> None:
    upload_id = finished(app)
    lines = run(app, "show", str(upload_id)).output.splitlines()
    plain = dict(line.split(maxsplit=1) for line in lines)
    shown = printed(app, "show", str(upload_id))
    assert plain.keys() == shown.keys()
    assert shown["id"] == plain["id"] == str(upload_id)
    assert (shown["status"], shown["offset"], shown["length"]) == ("complete", 3, 3)
    assert shown["digest"].startswith("md5:")
    assert shown["user"] is None
    assert plain["user"] == "-"
    assert shown["completed_at"].endswith("Z")


# -- delete ----------------------------------------------------------------------------


def test_delete_asks_first(app: Flask, tmp_path: Path) -> None:
    upload_id = begun(app)
    result = run(app, "delete", str(upload_id), answer="n\n")
    assert result.exit_code == 1
    assert "a.mov, 3/6 bytes" in result.output
    assert len(rows(app)) == 1
    assert run(app, "delete", str(upload_id), answer="y\n").exit_code == 0
    assert rows(app) == []
    assert stored_files(tmp_path) == []


def test_delete_with_yes_does_not_ask(app: Flask) -> None:
    upload_id = finished(app)
    result = run(app, "delete", "--yes", str(upload_id))
    assert (result.exit_code, result.output) == (0, f"{upload_id} removed.\n")
    assert rows(app) == []


# -- delete-expired --------------------------------------------------------------------


def test_expired_uploads_are_removed_and_listed(app: Flask, tmp_path: Path) -> None:
    old, young, done = begun(app, old=True), begun(app), finished(app)
    result = run(app, "delete-expired")
    assert result.exit_code == 0
    assert str(old) in result.output
    assert result.output.endswith("1 expired upload(s) removed.\n")
    assert {row.id for row in rows(app)} == {young, done}
    assert len(stored_files(tmp_path)) == 2
    again = run(app, "delete-expired")
    assert again.output == "0 expired upload(s) removed.\n"


def test_keeping_records_removes_bytes_only(app: Flask, tmp_path: Path) -> None:
    old = begun(app, old=True)
    result = run(app, "delete-expired", "-k")
    assert result.output.endswith("1 expired upload(s) removed, records kept.\n")
    assert [(row.id, row.status.value) for row in rows(app)] == [(old, "expired")]
    assert stored_files(tmp_path) == []
    assert run(app, "delete-expired", "--keep-records").output.startswith("0 ")
    assert run(app, "delete-expired").output.endswith("1 expired upload(s) removed.\n")
    assert rows(app) == []


def test_dry_run_only_says(app: Flask, tmp_path: Path) -> None:
    old = begun(app, old=True)
    result = run(app, "delete-expired", "--dry-run")
    assert str(old) in result.output
    assert result.output.endswith("1 expired upload(s) would be removed.\n")
    assert len(rows(app)) == len(stored_files(tmp_path)) == 1
    assert "Remove" not in run(app, "delete-expired", "--dry-run", "-i").output
    assert len(printed(app, "delete-expired", "--dry-run")) == 1


def test_interactive_asks_for_each(app: Flask) -> None:
    olds = sorted(begun(app, old=True) for _ in range(3))
    result = run(app, "delete-expired", "-i", answer="y\nn\ny\n")
    assert result.exit_code == 0
    assert result.output.count("Remove ") == 3
    assert result.output.endswith("2 expired upload(s) removed.\n")
    assert [row.id for row in rows(app)] == [olds[1]]


def test_interactive_leaves_what_is_active_again(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = begun(app, old=True)

    def confirm(text: str, **options: object) -> bool:
        age_row(app, upload_id, timedelta(0))
        return True

    monkeypatch.setattr("click.confirm", confirm)
    result = run(app, "delete-expired", "-i")
    assert result.output == "0 expired upload(s) removed.\n"
    assert upload_id in {row.id for row in rows(app)}


def test_expired_as_json(app: Flask) -> None:
    old = begun(app, old=True)
    result = run(app, "delete-expired", "-i", "--json", answer="y\n")
    # Some versions of click echo the answer first.
    (gone,) = json.loads(result.stdout[result.stdout.index("[") :])
    assert (gone["id"], gone["status"]) == (str(old), "expired")
    assert "Remove" in result.stderr


def test_expired_of_one_blueprint(app: Flask) -> None:
    app.register_blueprint(
        ChunkedUploadBlueprint("songs", __name__), url_prefix="/songs"
    )
    begun(app, old=True)
    result = run(app, "delete-expired", "--blueprint", "songs")
    assert result.output == "0 expired upload(s) removed.\n"
    assert len(rows(app)) == 1


# -- deliver ---------------------------------------------------------------------------


class Unsteady(ChunkedUploadBlueprint):
    """Delivers when it can."""

    fail = True
    calls = 0

    def deliver(self, upload: Any) -> None:
        self.calls += 1
        if self.fail:
            raise ConnectionError


def test_deliver_takes_events_of_a_minute_ago(app_factory: AppFactory) -> None:
    app = app_factory(blueprint_class=Unsteady)
    policy = registered(app).policy
    assert isinstance(policy, Unsteady)
    upload_id = finished(app)
    young = run(app, "deliver")
    assert (young.exit_code, young.output) == (0, "0 delivered, 0 failed.\n")
    assert policy.calls == 1

    # It was tried in the request, and waits for its next attempt.
    waits = run(app, "deliver", "--older-than", "0")
    assert (waits.exit_code, policy.calls) == (0, 1)
    failed = run(app, "deliver", "--older-than", "0", "--retry-now")
    assert failed.exit_code == 1
    assert "FAILED, still pending" in failed.output
    assert failed.output.endswith("0 delivered, 1 failed.\n")

    policy.fail = False
    begun_at = rows(app)[0].delivery_started_at
    assert begun_at is not None
    set_row(app, upload_id, delivery_started_at=begun_at - timedelta(seconds=121))
    done = run(app, "deliver")
    assert done.exit_code == 0
    assert f"{upload_id} (upload, 3/3 bytes): delivered" in done.output
    assert policy.calls == 3
    assert printed(app, "deliver", "--older-than", "0") == []


def test_deliver_as_json_says_what_failed(app_factory: AppFactory) -> None:
    app = app_factory(blueprint_class=Unsteady)
    upload_id = finished(app)
    options = ("--older-than", "0", "--retry-now")
    (one,) = printed(app, "deliver", *options, code=1)
    assert (one["id"], one["delivered"]) == (str(upload_id), False)


# -- check -----------------------------------------------------------------------------


def test_check_of_an_app_in_order(app: Flask) -> None:
    begun(app)
    finished(app)
    result = run(app, "check")
    assert (result.exit_code, result.output) == (0, "0 finding(s), 0 repaired.\n")
    assert printed(app, "check") == []


def test_check_finds_then_repairs(app: Flask, tmp_path: Path) -> None:
    gone = begun(app)
    (path,) = stored_files(tmp_path)
    path.unlink()
    stray = path.with_name(f"{uuid4()}.done")
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"stray")
    age_file(stray)
    found = run(app, "check")
    assert found.exit_code == 1
    lines = [line.split() for line in found.output.splitlines()]
    assert lines[0] == ["KIND", "SUBJECT", "BYTES", "BLUEPRINT", "REPAIRED"]
    assert lines[1] == ["missing", str(gone), "3", "uploads", "no"]
    assert lines[2][0] == "orphan"
    assert lines[2][2:] == ["5", "uploads", "no"]
    assert found.output.endswith("2 finding(s), 0 repaired.\n")
    assert {one["kind"] for one in printed(app, "check", code=1)} == {
        "missing",
        "orphan",
    }
    repaired = run(app, "check", "--repair")
    assert repaired.exit_code == 0
    assert repaired.output.endswith("2 finding(s), 2 repaired.\n")
    assert run(app, "check").exit_code == 0
    assert not stray.exists()


def test_check_that_cannot_repair_exits_with_1(app: Flask, tmp_path: Path) -> None:
    finished(app)
    (path,) = stored_files(tmp_path)
    path.unlink()
    (one,) = printed(app, "check", "--repair", code=1)
    assert (one["kind"], one["repaired"]) == ("missing", False)
    assert len(rows(app)) == 1
