"""What the fuzz found, in as few requests as show it."""

from __future__ import annotations

from flask.testing import FlaskClient

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError, Upload
from tests.conftest import AppFactory
from tests.dialects.tus import Tus, metadata
from tests.exchange import PREFIX, put_raw
from tests.gate.requests import BOUNDARY, Form
from tests.gate.server import titled_model
from tests.test_signals import connected


def test_repeat_of_a_chunk_in_a_form_that_names_its_upload_last(
    client: FlaskClient,
) -> None:
    upload_id = put_raw(client, b"abc", total=5).get_json()["id"]
    form = Form({"upload_id": upload_id}, b"abc", behind=True)
    answer = client.post(
        f"{PREFIX}/",
        data=form.encode(),
        headers={"Content-Range": "bytes 0-2/5"},
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
    )
    assert (answer.status_code, answer.get_json()["offset"]) == (200, 3)


def test_final_upload_of_a_model_whose_first_column_may_be_null(
    app_factory: AppFactory,
) -> None:
    db, model = titled_model()
    tus = Tus(app_factory(db=db, model=model).test_client())
    answer = tus.final(tus.partial(b"abc"), Upload_Metadata=metadata(title="x"))
    assert answer.status_code == 201, answer.text


class Picky(ChunkedUploadBlueprint):
    """Refuses every file by its first bytes."""

    def inspect(self, upload: Upload, head: bytes) -> None:
        raise ChunkedUploadError("No")


def test_no_signal_about_an_upload_follows_its_removal(app_factory: AppFactory) -> None:
    app = app_factory(blueprint_class=Picky)
    tus, told = Tus(app.test_client()), []

    def note(name: str, upload: Upload) -> None:
        told.append((name, upload.partial))

    part = tus.partial(b"abc")
    with connected(app, note):
        assert tus.final(part, part).status_code == 422
    assert [name for name, _ in told][-1] == "terminated", told


class Dropping(ChunkedUploadBlueprint):
    """Drops partial uploads when their final uploads are made."""

    keep_partials = False


def test_partial_goes_with_the_last_final_that_waited_for_it(
    app_factory: AppFactory,
) -> None:
    tus = Tus(app_factory(blueprint_class=Dropping).test_client())
    part, other = tus.partial(b"abc"), tus.partial(b"d", 2)
    waiting = tus.final(part, other).headers["Location"]
    assert tus.final(part).status_code == 201
    assert tus.head(part).status_code == 200
    assert tus.delete(waiting).status_code == 204
    assert tus.head(part).status_code == 404
