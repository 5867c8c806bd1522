"""Translation of boto3's errors into storage errors."""

from __future__ import annotations

import pytest

from flask_chunked.exceptions import BytesMissing, StorageError, StorageFull
from flask_chunked.storage.s3.errors import translate_boto_errors

exceptions = pytest.importorskip("botocore.exceptions", reason="needs the extra s3")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("NoSuchKey", BytesMissing, id="no-object"),
        pytest.param("NoSuchUpload", BytesMissing, id="no-upload"),
        pytest.param("InvalidPart", BytesMissing, id="another-part"),
        pytest.param("InsufficientStorage", StorageFull, id="full"),
        pytest.param("AccessDenied", StorageError, id="other"),
        pytest.param("", StorageError, id="no-code"),
    ],
)
def test_code_of_the_answer_chooses_the_error(
    code: str, expected: type[StorageError]
) -> None:
    with pytest.raises(StorageError) as caught, translate_boto_errors():
        raise exceptions.ClientError({"Error": {"Code": code}}, "GetObject")
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    "raised",
    [
        exceptions.EndpointConnectionError(endpoint_url="http://store.test"),
        ConnectionResetError("reset"),
    ],
    ids=["boto", "connection"],
)
def test_connection_error_is_a_storage_error(raised: Exception) -> None:
    with pytest.raises(StorageError) as caught, translate_boto_errors():
        raise raised
    assert caught.value.__cause__ is raised
