"""What the fuzz found, in as few requests as show it."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.exchange import PREFIX, put_raw
from tests.gate.requests import BOUNDARY, Form


@pytest.mark.xfail(strict=True, reason="what was stored has no digest to compare")
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
