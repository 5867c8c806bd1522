"""The statements on one table of uploads, built once for all blueprints that use it.

Building a statement takes longer than executing it, and each chunk needs several.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.dml import Update

from ..engine.records import CompletionRecord
from ..engine.states import UNFINISHED, Event, Status, sources, target
from .expiry_conditions import ExpiryConditions
from .members import MemberTable

#: The attribute of a table that holds its statements. ``Table.info`` cannot hold them,
#: because Alembic renders it.
_ATTRIBUTE = "_chunked_upload_statements"
#: Columns that the completion of an upload sets.
_COMPLETION = ("digest", "completed_at", "event_id", "delivered_at")
#: Events after which an upload no longer counts against its owner's quota.
_ENDING_EVENTS = (Event.COMPLETE, Event.FINISH, Event.TERMINATE, Event.EXPIRE)


class Statements:
    """Statements on uploads, with these parameters.

    In conditions: ``upload_id``, ``its_fence``, ``its_offset``, ``idle_since``,
    ``created_before``, ``stale``, ``verify_stale`` and ``spared``. For new values:
    ``new_`` and the name of the column.

    :ivar members: the members of the table's final uploads.
    :ivar expiry: the conditions under which the table's uploads expire.
    """

    @classmethod
    def of(cls, table: Table) -> Statements:
        """The statements on a table; the first call builds them."""
        known: Statements | None = getattr(table, _ATTRIBUTE, None)
        if known is None:
            known = cls(table)
            setattr(table, _ATTRIBUTE, known)
        return known

    def __init__(self, table: Table) -> None:
        c = table.c
        self.members = MemberTable(table)
        self.expiry = ExpiryConditions(table, self.members)
        self._table = table
        #: Id of a statement -> the statement, kept alive for its id, and its variant.
        self._returning: dict[int, tuple[Update, Any]] = {}
        self._id = c.id == bindparam("upload_id", type_=c.id.type)
        self._is_open = c.status == Status.UPLOADING.value
        self._its_fence = c.fence == bindparam("its_fence", type_=c.fence.type)
        self._its_offset = c.offset == bindparam("its_offset", type_=c.offset.type)
        self._build_row_statements()
        self._build_commit_statements()
        self._build_member_statements()
        self._build_delivery_statements()
        #: The UPDATE of each row of the engine's transition table.
        self.transitions = {
            **self._completion_transitions(),
            **self._other_transitions(),
        }
        self._build_end_statements()

    def returning(self, statement: Update) -> Any:
        """The statement with the changed row as its result."""
        known = self._returning.get(id(statement))
        if known is None:
            changed = statement.returning(*self._table.c)
            # Another database may have compiled the statement without this clause, and
            # SQLAlchemy's copy of a compiled statement keeps its list of no columns.
            for memo in ("_all_selected_columns", "exported_columns"):
                vars(changed).pop(memo, None)
            known = (statement, changed)
            self._returning[id(statement)] = known
        return known[1]

    # -- groups of statements ----------------------------------------------------------

    def _build_row_statements(self) -> None:
        """Statements on one row, without a change of its state."""
        c = self._table.c
        self.select = select(*c).where(self._id)
        self.insert = insert(self._table)
        self.remove = delete(self._table).where(self._id)
        self.reserve = self._set("reserved")
        self.forget_file = (
            self._set()
            .values(storage_key=None, storage_state=None)
            .where(c.storage_key.is_not(None))
        )
        # The new fence keeps writers that do not know the length from committing.
        self.declare_length = (
            self._set("length")
            .values(fence=c.fence + 1)
            .where(
                self._is_open,
                c.length.is_(None),
                self._its_offset,
                c.offset <= bindparam("new_length", type_=c.length.type),
            )
        )
        # Verification counts as activity, so that the upload does not expire meanwhile.
        started_at = self._new("verify_started_at")
        self.note_verification = (
            self._set("verify_started_at")
            .values(last_activity_at=func.coalesce(started_at, c.last_activity_at))
            .where(self._its_fence, c.status == Status.COMPLETING.value)
        )

    def _build_commit_statements(self) -> None:
        """Statements that commit bytes under a claim."""
        c = self._table.c
        its_fence, its_offset = self._its_fence, self._its_offset
        # Another request may have declared the length while the bytes arrived.
        new_offset = bindparam("new_offset", type_=c.offset.type)
        within = or_(c.length.is_(None), c.length >= new_offset)
        self.holds = select(c.fence).where(
            self._id, its_fence, its_offset, self._is_open
        )
        #: A claim after bytes were written, if no other request changed the upload.
        self.claim_if_unchanged = self._move(Event.APPEND, its_offset, its_fence)
        self.advance = self._set(
            "offset",
            "last_start",
            "last_digest",
            "last_activity_at",
            "storage_state",
            "hash_state",
        ).where(its_fence, its_offset, self._is_open, within)
        #: Commits the last bytes and begins the completion.
        self.advance_to_end = self.advance.values(
            status=target(Event.BEGIN_COMPLETION).value,
            fence=c.fence + 1,
            verify_started_at=self._new("verify_started_at"),
        ).where(c.length == new_offset)
        #: Commits the last bytes and completes the upload. An upload that counts
        #: against a quota needs a transaction that also changes the quota.
        self.advance_and_finish = self.advance_to_end.values(
            status=target(Event.FINISH).value,
            **{name: self._new(name) for name in _COMPLETION},
        ).where(c.reserved.is_(None))

    def _build_member_statements(self) -> None:
        """A new final upload is activity of its members."""
        c = self._table.c
        named_at = self._new("last_activity_at")
        self.touch_members = (
            update(self._table)
            .where(
                c.partial,
                c.status.in_((*UNFINISHED, Status.COMPLETE.value)),
            )
            # While this statement waited for the lock, a member may have got bytes.
            .values(
                last_activity_at=case(
                    (c.last_activity_at > named_at, c.last_activity_at), else_=named_at
                )
            )
        )

    def _build_delivery_statements(self) -> None:
        """Statements on the completion event."""
        c = self._table.c
        stale = bindparam("stale", type_=c.delivery_started_at.type)
        self.mark_delivered = self._set("delivered_at")
        self.claim_delivery = (
            self._set("delivery_started_at")
            .values(attempts=c.attempts + 1)
            .where(
                c.status == Status.COMPLETE.value,
                c.event_id.is_not(None),
                c.delivered_at.is_(None),
                or_(c.delivery_started_at.is_(None), c.delivery_started_at <= stale),
            )
        )

    def _completion_transitions(self) -> dict[Event, Update]:
        c = self._table.c
        return {
            Event.BEGIN_COMPLETION: self._move(
                Event.BEGIN_COMPLETION,
                c.offset == c.length,
                self._is_not_verifying(),
                columns=("last_activity_at", "verify_started_at"),
            ),
            Event.REFUSE_COMPLETION: self._move(
                Event.REFUSE_COMPLETION, self._its_fence, bump=False
            ).values(verify_started_at=None),
            Event.COMPLETE: self._move(
                Event.COMPLETE,
                columns=(*_COMPLETION, "last_activity_at"),
            ).values(attempts=0, verify_started_at=None),
            Event.FINISH: self._move(
                Event.FINISH,
                self._its_fence,
                self._its_offset,
                c.offset == c.length,
                columns=(*_COMPLETION, "last_activity_at"),
            ),
        }

    def _other_transitions(self) -> dict[Event, Update]:
        c = self._table.c
        return {
            Event.APPEND: self._move(Event.APPEND, self._its_offset),
            Event.TAKE_OVER: self._move(Event.TAKE_OVER),
            Event.TERMINATE: self._move(
                Event.TERMINATE,
                c.status != Status.TERMINATING.value,
                c.status != bindparam("spared", type_=c.status.type),
            ),
            Event.EXPIRE: self._move(
                Event.EXPIRE,
                self.expiry.is_past_limits(),
                self.expiry.may_expire(),
                self._is_not_verifying(),
            ),
        }

    def _build_end_statements(self) -> None:
        """Statements that end an upload."""
        #: A termination that another process began and did not finish.
        self.terminate_again = self._move(
            Event.TERMINATE, self._table.c.status == Status.TERMINATING.value
        )
        #: The ending transitions for a blueprint without quotas.
        self.ends = {
            event: self.transitions[event].values(reserved=None)
            for event in _ENDING_EVENTS
        }

    # -- parts of statements -----------------------------------------------------------

    def _is_not_verifying(self) -> ColumnElement[bool]:
        """True unless a request verifies the upload since ``verify_stale`` or later."""
        c = self._table.c
        verify_stale = bindparam("verify_stale", type_=c.last_activity_at.type)
        return or_(
            c.status == Status.UPLOADING.value,
            c.verify_started_at.is_(None),
            c.verify_started_at <= verify_stale,
        )

    def _set(self, *columns: str) -> Update:
        """An UPDATE of one upload that sets these columns to their ``new_`` values."""
        values = {name: self._new(name) for name in columns}
        return update(self._table).where(self._id).values(values)

    def _new(self, column: str) -> BindParameter[Any]:
        return bindparam(f"new_{column}", type_=self._table.c[column].type)

    def _move(
        self,
        event: Event,
        *conditions: ColumnElement[bool],
        columns: tuple[str, ...] = (),
        bump: bool = True,
    ) -> Update:
        """The UPDATE of a transition.

        :param columns: columns to set to their ``new_`` values.
        :param bump: increment the fence.
        """
        c = self._table.c
        statement = self._set(*columns).values(status=target(event).value)
        if bump:
            statement = statement.values(fence=c.fence + 1)
        # Not IN: SQLAlchemy would build the text of a list for each execution.
        allowed = [c.status == status.value for status in sources(event)]
        return statement.where(or_(*allowed), *conditions)


def values_of(statuses: tuple[Status, ...]) -> list[str]:
    """The statuses as the column stores them."""
    return [status.value for status in statuses]


def completion_values(record: CompletionRecord, at: datetime) -> dict[str, object]:
    """The new values of the columns that a completion sets."""
    return {
        "new_digest": record.digest,
        "new_completed_at": at,
        "new_event_id": record.event_id,
        "new_delivered_at": at if record.delivered else None,
    }
