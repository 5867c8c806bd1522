"""SQL conditions that decide which uploads expire.

Their parameters ``idle_since`` and ``created_before`` are the fields of
:class:`~flask_chunked.engine.records.Cutoff`.
"""

from __future__ import annotations

from sqlalchemy import Table, and_, bindparam, false, or_
from sqlalchemy.sql import ColumnElement

from ..engine.states import Status
from .members import MemberTable, is_unfinished


class ExpiryConditions:
    """Conditions on the rows of one table.

    :param members: the members of the table's final uploads.
    """

    def __init__(self, table: Table, members: MemberTable) -> None:
        c = table.c
        self._c = c
        idle_since = bindparam("idle_since", type_=c.last_activity_at.type)
        idle = c.last_activity_at <= idle_since
        #: No byte was committed since ``idle_since``, also in the concatenation.
        self._is_idle = and_(idle, ~members.is_kept_alive(idle_since))
        created_before = bindparam("created_before", type_=c.created_at.type)
        self._is_old = c.created_at <= created_before
        #: Keys: is there a limit of inactivity, and one of age.
        self._expired: dict[tuple[bool, bool], ColumnElement[bool]] = {}

    def may_expire(self) -> ColumnElement[bool]:
        """True for unfinished uploads and for complete partial uploads."""
        c = self._c
        complete_partial = and_(c.status == Status.COMPLETE.value, c.partial)
        return or_(is_unfinished(c.status), complete_partial)

    def is_hidden(self, *, partial: bool) -> ColumnElement[bool]:
        """True for uploads that a list leaves out once they are past their limits.

        A completing upload stays in the list.
        """
        if partial:
            return self._c.status != Status.COMPLETING.value
        return self._c.status == Status.UPLOADING.value

    def is_past_limits(
        self, *, idle: bool = True, age: bool = True
    ) -> ColumnElement[bool]:
        """True for uploads past a limit. A limit that is ``NULL`` matches no upload.

        The condition is cached: to build it takes longer than to read a short list.

        :param idle: check ``idle_since``.
        :param age: check ``created_before``.
        """
        known = self._expired.get((idle, age))
        if known is not None:
            return known
        limits = []
        if idle:
            limits.append(self._is_idle)
        if age:
            limits.append(self._is_old)
        return self._expired.setdefault((idle, age), or_(false(), *limits))
