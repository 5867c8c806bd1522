"""What an application does with a finished file, and the names of the blueprint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from flask_chunked import (
    ChunkedUploadBlueprint,
    Upload,
    delete_upload,
    deliver_pending,
    maintenance,
)
from flask_chunked.exceptions import (
    BytesMissing,
    ChunkedUploadError,
    NotLocal,
    StorageError,
    UnknownUpload,
)
from flask_chunked.storage.memory import MemoryStorage
from tests.apps import blueprint_of

from .apps import registered, rows, stored_files
from .conftest import AppFactory
from .exchange import begin, detail, finish, send

STORAGES = [None, MemoryStorage]


@pytest.fixture(params=STORAGES, ids=["local", "memory"])
def app(app_factory: AppFactory, request: pytest.FixtureRequest) -> Flask:
    return app_factory(
        CHUNKED_UPLOAD_STORAGE_CLASS=request.param, CHUNKED_UPLOAD_DOWNLOADS=True
    )


@pytest.fixture
def local(app_factory: AppFactory) -> Flask:
    return app_factory()


def finished(app: Flask, data: bytes = b"abcdef") -> tuple[ChunkedUploadBlueprint, Any]:
    """A complete upload's row, and its blueprint."""
    assert send(app.test_client(), data).status_code == 200
    return blueprint_of(app), rows(app)[-1]


@pytest.mark.parametrize("data", [b"abcdef", b""], ids=["bytes", "empty"])
def test_open_reads_the_finished_file(app: Flask, data: bytes) -> None:
    blueprint, upload = finished(app, data)
    with app.app_context(), blueprint.open(upload) as file:
        assert file.read() == data
        file.seek(0)
        assert file.read(3) == data[:3]


def test_open_reads_what_is_committed_of_an_unfinished_file(app: Flask) -> None:
    begin(app.test_client(), b"abc", 6)
    blueprint, (upload,) = blueprint_of(app), rows(app)
    with app.app_context(), blueprint.open(upload) as file:
        assert file.read() == b"abc"


@pytest.mark.parametrize("kind", ["snapshot", "instance"])
def test_both_snapshots_and_instances_are_taken(app: Flask, kind: str) -> None:
    blueprint, upload = finished(app)
    here = registered(app)
    with app.app_context():
        one = upload if kind == "snapshot" else here.instance(upload)
        assert isinstance(one, Upload) is (kind == "snapshot")
        with blueprint.open(one) as file:
            assert file.read() == b"abcdef"
        blueprint.delete(one)
    assert rows(app) == []


def test_path_is_the_finished_file(local: Flask, tmp_path: Path) -> None:
    blueprint, upload = finished(local)
    with local.app_context():
        path = blueprint.path(upload)
    assert path.read_bytes() == b"abcdef"
    assert path.is_relative_to(tmp_path / "instance" / "chunked_uploads")
    assert path.name == f"{upload.id}.done"


def test_path_of_an_unfinished_file_is_an_error(local: Flask) -> None:
    begin(local.test_client(), b"abc", 6)
    with local.app_context(), pytest.raises(BytesMissing):
        blueprint_of(local).path(rows(local)[0])


def test_path_elsewhere_is_a_clear_error(app_factory: AppFactory) -> None:
    app = app_factory(CHUNKED_UPLOAD_STORAGE_CLASS=MemoryStorage)
    blueprint, upload = finished(app)
    with app.app_context(), pytest.raises(NotLocal, match=r"use open_file\(\) instead"):
        blueprint.path(upload)


def test_move_takes_the_file_and_leaves_the_record(app: Flask, tmp_path: Path) -> None:
    blueprint, upload = finished(app)
    target = tmp_path / "taken.bin"
    with app.app_context():
        blueprint.move(upload, target)
    assert target.read_bytes() == b"abcdef"
    assert stored_files(tmp_path) == []
    (row,) = rows(app)
    assert row.is_complete
    assert row.storage_key is None
    client = app.test_client()
    shown = client.get(f"/uploads/{row.id}")
    assert shown.json is not None
    assert (shown.json["file"], shown.json["offset"]) == (None, 6)
    assert "Link" not in shown.headers
    assert client.get(f"/uploads/{row.id}/file").status_code == 404


def test_after_a_move_the_file_is_gone_for_all(app: Flask, tmp_path: Path) -> None:
    blueprint, upload = finished(app)
    with app.app_context():
        blueprint.move(upload, str(tmp_path / "taken.bin"))
        (row,) = rows(app)
        for act in (blueprint.open, blueprint.path):
            with pytest.raises(BytesMissing, match="moved away"):
                act(row)
        with pytest.raises(BytesMissing, match="moved away"):
            blueprint.move(row, tmp_path / "again.bin")
        blueprint.delete(row)
    assert rows(app) == []
    assert (tmp_path / "taken.bin").read_bytes() == b"abcdef"


def test_move_that_was_cut_off_before_its_record_may_be_repeated(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blueprint, upload = finished(app)
    here = registered(app)
    target = tmp_path / "taken.bin"

    def die(upload_id: object) -> None:
        raise KeyboardInterrupt

    with app.app_context():
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(here.repository, "forget_file", die)
            blueprint.move(upload, target)
        assert rows(app)[0].storage_key is not None
        blueprint.move(upload, target)
    assert target.read_bytes() == b"abcdef"
    assert rows(app)[0].storage_key is None


def test_unfinished_file_is_not_moved(app: Flask, tmp_path: Path) -> None:
    begin(app.test_client(), b"abc", 3)
    (upload,) = rows(app)
    with app.app_context(), pytest.raises(BytesMissing, match="complete upload"):
        blueprint_of(app).move(upload, tmp_path / "taken.bin")
    assert rows(app) == [upload]
    assert not (tmp_path / "taken.bin").exists()


def test_move_into_no_directory_changes_nothing(app: Flask, tmp_path: Path) -> None:
    blueprint, upload = finished(app)
    with app.app_context(), pytest.raises(StorageError, match="does not exist"):
        blueprint.move(upload, tmp_path / "nowhere" / "taken.bin")
    with app.app_context(), blueprint.open(rows(app)[0]) as file:
        assert file.read() == b"abcdef"


def test_moved_upload_still_repeats_its_completion(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            self.move(upload, tmp_path / "taken.bin")

    client = app_factory(blueprint_class=Uploads).test_client()
    url = begin(client, b"abc", 3)
    first = finish(client, url, b"abc")
    assert first.status_code == 200
    assert finish(client, url, b"abc").json == first.json
    wrong = finish(client, url, b"other")
    assert (wrong.status_code, detail(wrong)) == (400, "checksum does not match")


def test_delete_removes_record_and_bytes(app: Flask, tmp_path: Path) -> None:
    blueprint, upload = finished(app)
    with app.app_context():
        blueprint.delete(upload)
        with pytest.raises(UnknownUpload):
            blueprint.delete(upload)
        with pytest.raises(BytesMissing):
            blueprint.open(upload)
    assert rows(app) == []
    assert stored_files(tmp_path) == []
    assert app.test_client().get(f"/uploads/{upload.id}").status_code == 404


#: Functions that write, called with a blueprint, an upload and a directory.
WRITERS: dict[str, Callable[[ChunkedUploadBlueprint, Any, Path], object]] = {
    "move_file": lambda blueprint, upload, path: blueprint.move_file(
        upload, path / "x"
    ),
    "delete_upload": lambda blueprint, upload, path: blueprint.delete_upload(upload),
    "by id": lambda blueprint, upload, path: blueprint.delete_upload(upload.id),
    "function": lambda blueprint, upload, path: delete_upload(upload.id),
    "expire": lambda blueprint, upload, path: maintenance.expire_upload(upload.id),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_uncommitted_writes_of_the_caller_are_an_error_at_once(
    local: Flask, tmp_path: Path, writer: str
) -> None:
    blueprint, upload = finished(local)
    db, model = registered(local).db, registered(local).model
    before = rows(local)
    with local.app_context():
        instance: Any = db.session.get(model, upload.id)
        instance.filename = "renamed"
        db.session.flush()
        with pytest.raises(RuntimeError, match=r"call db\.session\.commit\(\) first"):
            WRITERS[writer](blueprint, instance, tmp_path)
        assert instance.filename == "renamed"
        assert len(stored_files(tmp_path)) == 1
        db.session.rollback()
    assert rows(local) == before


@pytest.mark.parametrize("writer", ["move_file", "delete_upload", "function"])
def test_instance_stays_readable(local: Flask, tmp_path: Path, writer: str) -> None:
    blueprint, upload = finished(local)
    db, model = registered(local).db, registered(local).model
    with local.app_context():
        instance: Any = db.session.get(model, upload.id)
        WRITERS[writer](blueprint, instance, tmp_path)
        if writer != "function":
            assert (instance.filename, instance.offset) == ("upload", 6)
        db.session.commit()
        assert (db.session.get(model, upload.id) is None) is (writer != "move_file")


def test_files_are_handled_in_a_worker_as_in_a_request(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        fail = True

        def deliver(self, upload: Any) -> None:
            if self.fail:
                raise ChunkedUploadError("not now")
            self.move(upload, tmp_path / f"{upload.filename}.taken")

    app = app_factory(blueprint_class=Uploads)
    send(app.test_client(), b"abc")
    registered(app).policy.fail = False  # type: ignore[attr-defined]
    with app.app_context():
        (done,) = deliver_pending(older_than=timedelta(0), retry_now=True)
    assert done.delivered
    assert (tmp_path / "upload.taken").read_bytes() == b"abc"


def test_files_of_two_blueprints_are_found_by_their_own_storage(
    app_factory: AppFactory,
) -> None:
    app = app_factory()
    app.register_blueprint(
        type("Songs", (ChunkedUploadBlueprint,), {"path": "songs"})("songs", __name__),
        url_prefix="/songs",
    )
    send(app.test_client(), b"abc", url="/songs/")
    (song,) = rows(app, "songs")
    with app.app_context():
        assert blueprint_of(app, "songs").path(song).parent.name == "songs"
        with blueprint_of(app).open(song) as file:
            assert file.read() == b"abc"


# -- names -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["instance", "snapshot", "id", "text of the id"])
def test_every_method_takes_every_form_of_an_upload(
    local: Flask, tmp_path: Path, kind: str
) -> None:
    blueprint, upload = finished(local)
    with local.app_context():
        one = {
            "instance": registered(local).instance(upload),
            "snapshot": upload,
            "id": upload.id,
            "text of the id": str(upload.id),
        }[kind]
        with blueprint.open_file(one) as file:
            assert file.read() == b"abcdef"
        path = blueprint.file_path(one)
        assert path.read_bytes() == b"abcdef"
        with blueprint.open(one) as file:
            assert blueprint.path(one) == path
        blueprint.move_file(one, tmp_path / "taken.bin")
        assert (tmp_path / "taken.bin").read_bytes() == b"abcdef"
        blueprint.delete_upload(one)
    assert rows(local) == []


@pytest.mark.parametrize("other", [UUID(int=1), str(UUID(int=1)), "x", ""], ids=str)
def test_unknown_id_is_an_unknown_upload(app: Flask, other: object) -> None:
    blueprint, _ = finished(app)
    with app.app_context():
        for act in (blueprint.open_file, blueprint.delete_upload, blueprint.open):
            with pytest.raises(UnknownUpload):
                act(other)


def test_id_of_another_blueprint_is_unknown(app_factory: AppFactory) -> None:
    app = app_factory()
    other = ChunkedUploadBlueprint("songs", __name__)
    app.register_blueprint(other, url_prefix="/songs")
    _, upload = finished(app)
    with app.app_context(), pytest.raises(UnknownUpload):
        other.delete_upload(upload.id)
    assert len(rows(app)) == 1


def test_delete_of_an_id_removes_the_upload(app: Flask) -> None:
    blueprint, upload = finished(app)
    with app.app_context():
        blueprint.delete(upload.id)
    assert rows(app) == []


def test_delete_of_a_text_is_a_route(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)

            @self.delete("/thing/<int:number>", endpoint="thing")
            def remove_thing(number: int) -> str:
                return f"removed {number}"

            @self.get("/thing/<int:number>")
            def show_thing(number: int) -> str:
                return f"thing {number}"

            assert remove_thing(1) == "removed 1"

    app = app_factory(blueprint_class=Uploads)
    assert app.test_client().delete("/uploads/thing/7").text == "removed 7"
    assert app.test_client().get("/uploads/thing/7").text == "thing 7"


def test_options_of_a_route_are_none_of_an_upload(app: Flask) -> None:
    blueprint, upload = finished(app)
    with app.app_context(), pytest.raises(TypeError, match="takes no endpoint"):
        blueprint.delete(upload, endpoint="x")
    assert len(rows(app)) == 1


# -- path ------------------------------------------------------------------------------


class _Mixin:
    path = "mixed/in"


@pytest.mark.parametrize(
    "value", ["videos/%Y", Path("videos/%Y")], ids=["text", "path"]
)
def test_path_of_an_instance_is_the_option(
    app_factory: AppFactory, value: object
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.path = value

    app = app_factory(blueprint_class=Uploads)
    assert registered(app).settings.path == "videos/%Y"
    blueprint, upload = finished(app)
    with app.app_context():
        assert "videos" in blueprint.path(upload).parts


@pytest.mark.parametrize(
    ("bases", "names", "path"),
    [
        ((ChunkedUploadBlueprint,), {"path": Path("a/b")}, "a/b"),
        ((_Mixin, ChunkedUploadBlueprint), {}, "mixed/in"),
        ((_Mixin, ChunkedUploadBlueprint), {"path": "own"}, "own"),
        ((ChunkedUploadBlueprint,), {"path": None}, "chunked_uploads/%Y/%m/%d"),
    ],
    ids=["path", "mixin", "own over mixin", "none"],
)
def test_path_of_a_class_is_the_option(
    app_factory: AppFactory,
    bases: tuple[type, ...],
    names: dict[str, object],
    path: str,
) -> None:
    app = app_factory(blueprint_class=type("Uploads", bases, names))
    assert registered(app).settings.path == path
    blueprint, upload = finished(app)
    with app.app_context():
        assert blueprint.path(upload).is_file()


def test_path_that_is_set_on_a_class_later_is_the_option(
    app_factory: AppFactory,
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        pass

    Uploads.path = "late"
    app = app_factory(blueprint_class=Uploads)
    assert registered(app).settings.path == "late"
    blueprint, upload = finished(app)
    with app.app_context():
        assert blueprint.path(upload).parent.name == "late"


def test_path_that_is_no_path_is_a_clear_error() -> None:
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    with pytest.raises(TypeError, match=r"path is int; .*override file_path\(\)"):
        blueprint.path = 7
