"""What the options of a bucket put into its requests; nothing is sent anywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from flask_chunked.storage.base import Part
from flask_chunked.storage.s3.bucket import Bucket, BucketSettings

pytestmark = pytest.mark.slow
pytest.importorskip("boto3", reason="needs the extra s3")

SSE, KEY_ID = (
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
)
ANSWER: dict[str, Any] = {
    "UploadId": "u",
    "ETag": '"e"',
    "CopyPartResult": {"ETag": '"e"'},
    "ContentLength": 3,
    "ResponseMetadata": {},
}


@dataclass
class Request:
    """What was about to be sent."""

    name: str
    url: str
    headers: dict[str, str]


@dataclass
class Seen:
    """A bucket, and the requests that its methods make."""

    bucket: Bucket
    requests: list[Request]

    def make_all(self) -> dict[str, Request]:
        """Each request that carries or makes bytes, by the operation's name."""
        self.bucket.put("k", io.BytesIO(b"abc"), 3)
        self.bucket.copy("from", "k")
        upload = self.bucket.begin("k")
        self.bucket.send_part("k", upload, 1, io.BytesIO(b"abc"), 3)
        self.bucket.copy_part("k", upload, 2, "from", 3)
        self.bucket.complete("k", upload, [Part(1, 3, '"e"', None)])
        return {request.name: request for request in self.requests}


def seen_with(**options: Any) -> Seen:
    """A bucket of these options whose client answers by itself."""
    told = {"access_key": "a", "secret_key": "b", "region": "eu-central-1", **options}
    seen = Seen(Bucket(BucketSettings("films", **told)), [])

    def answer(model: Any, params: Any, **_: object) -> Any:
        headers = {
            name.lower(): str(value) for name, value in params["headers"].items()
        }
        seen.requests.append(Request(model.name, params["url"], headers))
        return SimpleNamespace(status_code=200), ANSWER

    seen.bucket.client.meta.events.register("before-call.s3", answer)
    return seen


@pytest.fixture(autouse=True)
def no_local_credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the profile and the credentials of the user who runs the tests."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield


def test_all_that_makes_an_object_asks_for_encryption() -> None:
    made = seen_with(server_side_encryption="aws:kms", kms_key_id="key").make_all()
    for name in ("PutObject", "CopyObject", "CreateMultipartUpload"):
        assert (made[name].headers[SSE], made[name].headers[KEY_ID]) == (
            "aws:kms",
            "key",
        )
    # Parts are encrypted as their upload is; to say it again is an error.
    for name in ("UploadPart", "UploadPartCopy", "CompleteMultipartUpload"):
        assert SSE not in made[name].headers


def test_without_the_option_the_bucket_decides() -> None:
    for request in seen_with().make_all().values():
        assert SSE not in request.headers


@pytest.mark.parametrize(
    ("checksum", "md5", "crc32"),
    [("md5", True, False), ("crc32", False, True), ("none", False, False)],
)
def test_bytes_are_checked_on_their_way(checksum: str, md5: bool, crc32: bool) -> None:
    made = seen_with(checksum=checksum).make_all()
    for name in ("PutObject", "UploadPart"):
        headers = made[name].headers
        assert ("content-md5" in headers) is md5
        asked = any(
            "checksum" in key and "crc32" in (key + headers[key]).lower()
            for key in headers
        )
        assert asked is crc32, headers
    assert ("x-amz-checksum-type" in made["CreateMultipartUpload"].headers) is crc32


def test_bucket_is_in_the_path_or_in_the_name() -> None:
    at = {"endpoint_url": "http://store.test"}
    made = seen_with(path_style=True, **at).make_all()
    assert made["PutObject"].url == "http://store.test/films/k"
    at_aws = "s3.eu-central-1.amazonaws.com"
    made = seen_with().make_all()
    assert made["PutObject"].url == f"https://films.{at_aws}/k"
    made = seen_with(path_style=True).make_all()
    assert made["PutObject"].url == f"https://{at_aws}/films/k"
