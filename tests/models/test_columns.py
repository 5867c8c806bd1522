"""Columns of a model: the Python types of their values."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import JSON, BigInteger, DateTime, String, Uuid
from sqlalchemy.types import TypeEngine

from flask_chunked.models.columns import python_type


class NoPythonType(TypeEngine[object]):
    """A type that does not implement ``python_type``."""

    @property
    def python_type(self) -> type[object]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (String(10), str),
        (BigInteger(), int),
        (JSON(), dict),
        (DateTime(), datetime),
        (NoPythonType(), None),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_python_type_of_a_column(
    kind: TypeEngine[object], expected: type[object] | None
) -> None:
    assert python_type(kind) is expected


def test_python_type_of_a_uuid_column() -> None:
    assert python_type(Uuid(as_uuid=False)) is str
