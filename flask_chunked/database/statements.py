"""The engine's statements on one table, built once for all blueprints on it.

Building an expression costs more than running it, and every chunk needs several.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BindParameter,
    Table,
    and_,
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

from ..engine.states import UNFINISHED, Event, Status, sources, target
from .members import MemberBook

#: The attribute of a table that keeps them; Alembic writes ``Table.info`` down.
_KEPT = "_chunked_upload_statements"
#: Columns that a complete upload has more than others.
_ENDING = ("digest", "completed_at", "event_id", "delivered_at")


class Statements:
    """Parameters: ``upload_id``, ``its_fence``, ``its_offset``, ``idle_since``,
    ``created_before``, ``stale``, ``verify_stale``, ``spared`` in conditions;
    ``new_`` and a column's name for its new value.

    :ivar members: which partial uploads the table's final ones are made of.
    """

    @classmethod
    def of(cls, table: Table) -> Statements:
        """Those of a table, which keeps them."""
        known: Statements | None = getattr(table, _KEPT, None)
        if known is None:
            known = cls(table)
            setattr(table, _KEPT, known)
        return known

    def __init__(self, table: Table) -> None:
        c = table.c
        self.members = MemberBook(table)
        self._table = table
        self._returning: dict[int, Any] = {}
        self._id = c.id == bindparam("upload_id", type_=c.id.type)
        self._is_open = c.status == Status.UPLOADING.value
        its_fence = c.fence == bindparam("its_fence", type_=c.fence.type)
        its_offset = c.offset == bindparam("its_offset", type_=c.offset.type)
        # A length that was deferred may have been declared while the bytes came.
        new_offset = bindparam("new_offset", type_=c.offset.type)
        within = or_(c.length.is_(None), c.length >= new_offset)
        self.select = select(*c).where(self._id)
        self.insert = insert(table)
        self.holds = select(c.fence).where(
            self._id, its_fence, its_offset, self._is_open
        )
        self.advance = self._set(
            "offset",
            "last_start",
            "last_digest",
            "last_activity_at",
            "storage_state",
            "hash_state",
        ).where(its_fence, its_offset, self._is_open, within)
        #: The same for the last bytes, with the beginning of completion.
        self.advance_to_end = self.advance.values(
            status=target(Event.BEGIN_COMPLETION).value,
            fence=c.fence + 1,
            verify_started_at=self._new("verify_started_at"),
        ).where(c.length == new_offset)
        #: The same, with the end of it.
        self.advance_and_finish = self.advance_to_end.values(
            status=target(Event.FINISH).value,
            **{name: self._new(name) for name in _ENDING},
            # Who began to count for an owner meanwhile is counted out elsewhere.
        ).where(c.reserved.is_(None))
        # The fence is bumped, so that no writer commits without knowing the length.
        self.declare_length = (
            self._set("length")
            .values(fence=c.fence + 1)
            .where(
                self._is_open,
                c.length.is_(None),
                its_offset,
                c.offset <= bindparam("new_length", type_=c.length.type),
            )
        )
        self.reserve = self._set("reserved")
        self.remove = delete(table).where(self._id)
        self.forget_file = (
            self._set()
            .values(storage_key=None, storage_state=None)
            .where(c.storage_key.is_not(None))
        )
        # To be at work is activity, so that no upload expires under its verification.
        started_at = self._new("verify_started_at")
        self.note_verification = (
            self._set("verify_started_at")
            .values(last_activity_at=func.coalesce(started_at, c.last_activity_at))
            .where(its_fence, c.status == Status.COMPLETING.value)
        )
        named_at = self._new("last_activity_at")
        self.touch_members = (
            update(table)
            .where(
                c.partial,
                c.status.in_((*UNFINISHED, Status.COMPLETE.value)),
            )
            # The lock may have been waited for, while bytes of a member came.
            .values(
                last_activity_at=case(
                    (c.last_activity_at > named_at, c.last_activity_at), else_=named_at
                )
            )
        )
        self.mark_delivered = self._set("delivered_at")
        self.claim_delivery = self._claim_delivery()
        #: A claim after bytes were written, where no other request came.
        self.claim_as_seen = self._move(Event.APPEND, its_offset, its_fence)
        #: One UPDATE for each row of the engine's transition table.
        self.transitions = self._transitions(its_fence, its_offset)
        #: A termination that another process began, and did not finish.
        self.terminate_again = self._move(
            Event.TERMINATE, c.status == Status.TERMINATING.value
        )
        #: Those after which an upload counts no more, where no owner is counted.
        self.ends = {
            happening: self.transitions[happening].values(reserved=None)
            for happening in (
                Event.COMPLETE,
                Event.FINISH,
                Event.TERMINATE,
                Event.EXPIRE,
            )
        }

    def _claim_delivery(self) -> Update:
        c = self._table.c
        stale = bindparam("stale", type_=c.delivery_started_at.type)
        return (
            self._set("delivery_started_at")
            .values(attempts=c.attempts + 1)
            .where(
                c.status == Status.COMPLETE.value,
                c.event_id.is_not(None),
                c.delivered_at.is_(None),
                or_(c.delivery_started_at.is_(None), c.delivery_started_at <= stale),
            )
        )

    def _transitions(
        self,
        its_fence: ColumnElement[bool],
        its_offset: ColumnElement[bool],
    ) -> dict[Event, Update]:
        c = self._table.c
        moment = c.last_activity_at.type
        # A limit that there is not is NULL, and nothing is as old as that.
        idle_since = bindparam("idle_since", type_=moment)
        is_alone = ~self.members.is_kept_alive(idle_since)
        old = or_(
            and_(c.last_activity_at <= idle_since, is_alone),
            c.created_at <= bindparam("created_before", type_=moment),
        )
        may_expire = or_(c.status != Status.COMPLETE.value, c.partial)
        is_idle = or_(
            c.status == Status.UPLOADING.value,
            c.verify_started_at.is_(None),
            c.verify_started_at <= bindparam("verify_stale", type_=moment),
        )
        return {
            Event.APPEND: self._move(Event.APPEND, its_offset),
            Event.TAKE_OVER: self._move(Event.TAKE_OVER),
            Event.BEGIN_COMPLETION: self._move(
                Event.BEGIN_COMPLETION,
                c.offset == c.length,
                is_idle,
                columns=("last_activity_at", "verify_started_at"),
            ),
            Event.REFUSE_COMPLETION: self._move(
                Event.REFUSE_COMPLETION, its_fence, bump=False
            ).values(verify_started_at=None),
            Event.COMPLETE: self._move(
                Event.COMPLETE,
                columns=(*_ENDING, "last_activity_at"),
            ).values(attempts=0, verify_started_at=None),
            Event.FINISH: self._move(
                Event.FINISH,
                its_fence,
                its_offset,
                c.offset == c.length,
                columns=(*_ENDING, "last_activity_at"),
            ),
            Event.TERMINATE: self._move(
                Event.TERMINATE,
                c.status != Status.TERMINATING.value,
                c.status != bindparam("spared", type_=c.status.type),
            ),
            Event.EXPIRE: self._move(Event.EXPIRE, old, may_expire, is_idle),
        }

    def returning(self, statement: Update) -> Any:
        """The statement with the changed row as its result."""
        known = self._returning.get(id(statement))
        if known is None:
            known = statement.returning(*self._table.c)
            self._returning[id(statement)] = known
        return known

    def _set(self, *columns: str) -> Update:
        """An UPDATE of one upload that sets these columns to what is told."""
        values = {name: self._new(name) for name in columns}
        return update(self._table).where(self._id).values(values)

    def _new(self, column: str) -> BindParameter[Any]:
        return bindparam(f"new_{column}", type_=self._table.c[column].type)

    def _move(
        self,
        happening: Event,
        *conditions: ColumnElement[bool],
        columns: tuple[str, ...] = (),
        bump: bool = True,
    ) -> Update:
        c = self._table.c
        statement = self._set(*columns).values(status=target(happening).value)
        if bump:
            statement = statement.values(fence=c.fence + 1)
        # No list: the text of a statement that has one is made for each execution.
        allowed = [c.status == status.value for status in sources(happening)]
        return statement.where(or_(*allowed), *conditions)


def values_of(statuses: tuple[Status, ...]) -> list[str]:
    """As the column holds them."""
    return [status.value for status in statuses]
