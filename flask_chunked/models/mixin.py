"""The columns of an upload: a mixin for the application's model, and a default model.

Knows SQLAlchemy and the engine's states; nothing of requests.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    event,
)
from sqlalchemy.orm import Mapped, MappedAsDataclass, Mapper, mapped_column

from ..engine.expiry import utcnow
from ..engine.states import Status
from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


class UTCDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database, stored without an offset."""

    #: Generated migrations import the type from here.
    __module__ = "flask_chunked.models"

    impl = DateTime
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Convert an aware datetime of any time zone to naive UTC."""
        if value is None:
            return None
        return value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Convert naive UTC to aware UTC."""
        return None if value is None else value.replace(tzinfo=timezone.utc)


class ChunkedUploadMixin:
    """The columns of an upload, for ``class Video(ChunkedUploadMixin, db.Model)``.

    Sizes are bytes, times aware UTC. The model may add columns, relationships and
    validators, and may override ``user``, for instance with a foreign key. The
    application may change only ``filename`` and the columns that it added.
    """

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    blueprint: Mapped[str] = mapped_column(String(255), default="")
    #: ``Any``, so that a model may override it with a key of another type.
    user: Mapped[Any] = mapped_column(String(255), nullable=True)
    filename: Mapped[str] = mapped_column(String(255), default="upload")
    offset: Mapped[int] = mapped_column(BigInteger, default=0)
    length: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16), default=Status.UPLOADING.value)
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    last_start: Mapped[int | None] = mapped_column(BigInteger)
    last_digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    last_activity_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)
    completed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    storage_key: Mapped[str | None] = mapped_column(String(512))
    dialect: Mapped[str] = mapped_column(String(32), default="")
    partial: Mapped[bool] = mapped_column(Boolean, default=False)
    concat: Mapped[str | None] = mapped_column(Text)
    raw_metadata: Mapped[str | None] = mapped_column(Text)
    content_type: Mapped[str | None] = mapped_column(String(255))
    hash_name: Mapped[str | None] = mapped_column(String(32))
    hash_state: Mapped[bytes | None] = mapped_column(LargeBinary)
    digest: Mapped[str | None] = mapped_column(String(255))
    event_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    delivered_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    delivery_started_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    storage_state: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    reserved: Mapped[int | None] = mapped_column(BigInteger)
    verify_started_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    expected_digest: Mapped[str | None] = mapped_column(String(255))
    attached_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    def __init_subclass__(cls, **options: object) -> None:
        if issubclass(cls, MappedAsDataclass):
            raise ConfigurationError(
                f"Model {cls.__name__} is a dataclass (MappedAsDataclass), and the "
                "columns of an upload are no arguments of a constructor. Derive the "
                "model from ChunkedUploadMixin and a DeclarativeBase of its own, "
                "without MappedAsDataclass, and pass it as model="
            )
        super().__init_subclass__(**options)

    @property
    def is_complete(self) -> bool:
        """True once all bytes are stored, verified and announced."""
        return bool(self.status == Status.COMPLETE.value)


@event.listens_for(ChunkedUploadMixin, "instrument_class", propagate=True)
def _constrain(mapper: Mapper[Any], cls: type) -> None:
    """Add check constraints and an index to the model's ``__table_args__``."""
    table = mapper.local_table
    if not isinstance(table, Table):
        return
    c = table.c
    if not CORE_COLUMNS - {"user"} <= set(c.keys()):
        # Registration refuses such a model and reports the reason.
        return
    name = table.name
    activity = [c.status, c.last_activity_at]
    if _has_index(table, activity):
        # The model is a subclass with the same table.
        return
    Index(f"ix_{name}_activity", *activity)
    table.append_constraint(CheckConstraint(c.offset >= 0, name=f"{name}_offset_ge_0"))
    table.append_constraint(
        CheckConstraint(
            c.length.is_(None) | (c.offset <= c.length), name=f"{name}_offset_le_length"
        )
    )
    table.append_constraint(
        CheckConstraint(
            c.status.in_([status.value for status in Status]), name=f"{name}_status"
        )
    )


def add_owner_index(table: Table, owner: Column[Any]) -> None:
    """Add the index of lists, counts and quotas, once for each column of owners.

    A blueprint names the owner's column, so that its registration calls this function.
    """
    c = table.c
    # Because the index has ``partial``, a count reads only the index.
    columns = [c.blueprint, owner, c.status, c.partial, c.created_at, c.id]
    if owner.table is not table or _has_index(table, columns):
        return
    name = f"ix_{table.name}_owner"
    if any(str(index.name).endswith(name) for index in table.indexes):
        name = f"{name}_{owner.name}"
    Index(name, *columns)


def _has_index(table: Table, columns: Sequence[Column[Any]]) -> bool:
    # Compares columns: a naming convention of the application changes names.
    names = [column.name for column in columns]
    return any([known.name for known in one.columns] == names for one in table.indexes)


#: The names of the mixin's columns. All other columns are the application's.
CORE_COLUMNS = frozenset(
    name for name in ChunkedUploadMixin.__annotations__ if not name.startswith("_")
)


def default_model(db: SQLAlchemy) -> type[Any]:
    """The model ``ChunkedUpload`` of this ``db``; the first call creates it."""
    # The metadata holds it, so that it exists exactly as long as its table.
    info: dict[str, Any] = db.metadata.info
    model: type[Any] | None = info.get("flask_chunked.default_model")
    if model is None:
        attributes: Mapping[str, object] = {
            "__tablename__": "chunked_upload",
            "__module__": __name__,
            "__doc__": "The uploads of blueprints without a model.",
        }
        model = type("ChunkedUpload", (ChunkedUploadMixin, db.Model), dict(attributes))
        info["flask_chunked.default_model"] = model
    return model
