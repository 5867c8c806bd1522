"""A pure model of the server: uploads, hooks, signals, expiry, quotas.

It knows neither Flask nor a database nor files, and imports nothing of the package.
Roads of the dialects are in ``tus_roads`` and ``range_roads``; final uploads in
``finals``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from tests.gate import rules as policy
from tests.gate.rules import DROPS_LATE, Rules
from tests.gate.uploads import COMPLETE, EXPIRED, FINAL, PARTIAL, Refused, Sums, Upload

#: The largest length of all, in bytes.
MOST = 2**53 - 1
#: Bytes that ``inspect`` sees at most.
HEAD = 4096
#: Final uploads that may wait for one partial upload.
MOST_WAITING = 8
#: Minutes from one call of ``deliver`` to the next; the last one repeats.
PAUSES = (1, 2, 4, 8, 16, 32, 60)


def pause(attempts: int) -> timedelta:
    """How long an event waits after so many calls, at least a minute."""
    return timedelta(minutes=PAUSES[min(max(attempts, 1), len(PAUSES)) - 1])


class Model:
    """All uploads, and what happened in the request that is answered now.

    :ivar most: bytes that an upload may have at all.
    :ivar asked: hooks, in order: name, upload or ``None``, arguments.
    :ivar told: signals, in order: name, upload, offset or ``None``.
    :ivar loose: uploads whose last activity may or may not be this moment.
    :ivar denied: actions that this request denies to itself.
    """

    def __init__(self, rules: Rules, now: datetime) -> None:
        self.rules = rules
        self.most = MOST
        self.now = now
        self.uploads: list[Upload] = []
        self.denied = ""
        self.begin("")

    def begin(self, denied: str) -> None:
        """A request begins, or something else that happens to the server."""
        self.denied = denied
        self.asked: list[tuple[object, ...]] = []
        self.told: list[tuple[object, ...]] = []
        self.loose: set[Upload] = set()

    # -- which uploads ---------------------------------------------------------------

    def there(self) -> Iterator[Upload]:
        """Uploads that have a row."""
        return (upload for upload in self.uploads if not upload.gone)

    def find(self, upload_id: str, caller: str | None) -> Upload:
        """The upload, where the caller may see it."""
        for upload in self.there():
            anyones = upload.user is None and self.rules.allow_anonymous
            mine = caller is not None and upload.user == caller
            if upload.id == upload_id and (mine or anyones):
                return upload
        raise Refused("unknown_upload")

    def waiting_for(self, partial: Upload) -> list[Upload]:
        """Final uploads that wait for a partial one."""
        waiting = [one for one in self.there() if one.waits and partial in one.members]
        return sorted(waiting, key=lambda final: final.id or "")

    def listed(
        self, caller: str | None, statuses: Sequence[str], *, partial: bool
    ) -> list[Upload]:
        """What a list shows, oldest first."""
        found = [
            one
            for one in self.there()
            if one.user == caller is not None
            and one.status in statuses
            and (one.kind == PARTIAL) is partial
            and not self.is_over(one)
        ]
        return sorted(found, key=lambda upload: (upload.created, upload.id or ""))

    # -- hooks and signals -------------------------------------------------------------

    def _ask(self, hook: str, upload: Upload | None, *arguments: object) -> bool:
        if hook not in self.rules.hooks:
            return False
        self.asked.append((hook, upload, *arguments))
        return True

    def tell(self, signal: str, upload: Upload) -> None:
        """Send a signal."""
        offset = upload.offset if signal in ("chunk_received", "completed") else None
        self.told.append((signal, upload, offset))

    def authorize(self, action: str, upload: Upload | None = None) -> None:
        """Ask whether the caller may do it."""
        if not self.is_authorized(action, upload):
            raise Refused("not_authorized")

    def is_authorized(self, action: str, upload: Upload | None = None) -> bool:
        """Ask without refusing."""
        if not self._ask("authorize", upload, action):
            return True
        name = None if upload is None else upload.filename
        return policy.permits(action, name, self.denied)

    def _validate(self, upload: Upload, length: int | None) -> None:
        if upload.kind == PARTIAL or not self._ask("validate", upload, length):
            return
        if policy.refuses_declared(upload.filename, length):
            raise Refused("rejected")

    def inspect(self, upload: Upload, content: bytes, length: int | None) -> None:
        """Show the first bytes, once they are there; at most once.

        :param content: all bytes that will be there.
        """
        wanted = HEAD if length is None else min(HEAD, length)
        if upload.inspected or len(content) < wanted or upload.kind == PARTIAL:
            return
        upload.inspected = True
        head = content[:wanted]
        asked = self._ask("inspect", upload, head)
        if asked and policy.refuses_head(upload.filename, head):
            raise Refused("rejected")

    def shaped(self, upload: Upload) -> bool:
        """Ask ``on_completion``: does it answer by itself?"""
        if upload.status != COMPLETE or upload.kind == PARTIAL:
            return False
        asked = self._ask("on_completion", upload)
        return asked and policy.is_shaped(upload.filename)

    # -- expiry ------------------------------------------------------------------------

    def ends_at(self, upload: Upload) -> datetime | None:
        """When time gives an upload up; ``None``: never.

        A final upload that waits and its members live by one another's activity.
        """
        if not upload.is_unfinished:
            return None
        group = [upload]
        for final in self.there():
            if final.waits and (final is upload or upload in final.members):
                group += [final, *(m for m in final.members if not m.gone)]
        ends = max(one.active for one in group) + self.rules.idle
        if self.rules.lifetime is not None:
            ends = min(ends, upload.created + self.rules.lifetime)
        return ends

    def told_end(self, upload: Upload) -> datetime | None:
        """What ``Upload-Expires`` says; a partial upload may live longer."""
        ends = self.ends_at(upload)
        if ends is None or upload.kind != PARTIAL:
            return ends
        return min(ends, upload.active + self.rules.idle)

    def is_over(self, upload: Upload) -> bool:
        """Is its time over, though its row may still be there?"""
        ends = self.ends_at(upload)
        return upload.status == EXPIRED or (ends is not None and ends <= self.now)

    def require_live(self, upload: Upload) -> None:
        """Refuse an upload whose time is over."""
        if self.is_over(upload):
            raise Refused("upload_expired")

    def expire(self, upload: Upload, *, keep_record: bool) -> None:
        """Give one up."""
        if upload.status != EXPIRED:
            self.tell("expired", upload)
        waited = upload.waits
        upload.status = EXPIRED
        upload.gone = not keep_record
        if waited and DROPS_LATE:
            self.drop_members(upload)

    def delete_expired(self, *, keep_records: bool) -> list[Upload]:
        """The command: what it removes."""
        old = [
            one
            for one in self.there()
            if (one.status == EXPIRED and not keep_records)
            or (one.status != EXPIRED and self.is_over(one))
        ]
        for upload in old:
            self.expire(upload, keep_record=keep_records)
        return old

    # -- quotas ------------------------------------------------------------------------

    def is_named(self, partial: Upload) -> bool:
        """Does a final upload name it, that waits or that was made?"""
        return any(
            partial in final.members
            for final in self.uploads
            if final.kind == FINAL and (final.waits or final.completed is not None)
        )

    def sums(self, owner: str | None) -> Sums:
        """What an owner's uploads count."""
        mine = [
            one for one in self.there() if one.user == owner and one.status != EXPIRED
        ]
        counted = [
            one
            for one in mine
            if one.is_unfinished and not (one.kind == PARTIAL and self.is_named(one))
        ]
        size = sum(one.size for one in counted)
        return Sums(len(counted), size, sum(one.size for one in mine))

    def require_reserve(
        self, length: int | None, members: Sequence[Upload] = ()
    ) -> int:
        """Bytes to be reserved for an upload of this length.

        :param members: of a final upload, which may become as long as they reserved.
        """
        if length is not None:
            return length
        if self.rules.max_bytes is None and self.rules.limits_bytes:
            raise Refused("length_undeclared")
        kept = sum(one.size for one in dict.fromkeys(members))
        return max(self.rules.max_bytes or 0, kept)

    def take_room(
        self, owner: str | None, length: int | None, naming: Sequence[Upload] = ()
    ) -> None:
        """Refuse where the owner's limits have no room for one more upload.

        :param naming: partial uploads that count no more once it is there.
        """
        self.require_length(length)
        if not self.rules.counts:
            return
        reserve = self.require_reserve(length, naming)
        try:
            self._require_room(owner, reserve, naming)
        except Refused:
            mine = [one for one in self.there() if one.user == owner]
            old = [one for one in mine if one.status != EXPIRED and self.is_over(one)]
            for upload in old:
                self.expire(upload, keep_record=False)
            if not old:
                raise
            self._require_room(owner, reserve, naming)

    def _require_room(
        self, owner: str | None, reserve: int, naming: Sequence[Upload]
    ) -> None:
        rules, sums = self.rules, self.sums(owner)
        freed = [
            one
            for one in dict.fromkeys(naming)
            if one.user == owner and not self.is_named(one)
        ]
        uploads = sums.uploads - len(freed)
        size = sums.size - sum(one.size for one in freed) + reserve
        if rules.max_open is not None and uploads >= rules.max_open:
            raise Refused("too_many_uploads")
        if rules.max_total is not None and size > rules.max_total:
            raise Refused("quota_exceeded")
        if rules.max_stored is not None and sums.stored + reserve > rules.max_stored:
            raise Refused("quota_exceeded")

    def _require_more(self, upload: Upload, more: int) -> None:
        """Refuse an upload that counts more from now on than there is room for."""
        rules, sums = self.rules, self.sums(upload.user)
        is_kept = upload.kind == PARTIAL and self.is_named(upload)
        total = None if is_kept else rules.max_total
        if total is not None and sums.size + more > total:
            raise Refused("quota_exceeded")
        if rules.max_stored is not None and sums.stored + more > rules.max_stored:
            raise Refused("quota_exceeded")

    # -- an upload's life --------------------------------------------------------------

    def require_limit(self, length: int | None) -> None:
        """Refuse a length above the application's limit."""
        limit = self.rules.max_bytes
        if length is not None and limit is not None and length > limit:
            raise Refused("too_large")

    def require_length(self, length: int | None) -> None:
        """Refuse a length that is too large, for the application or at all."""
        self.require_limit(length)
        if length is not None and length > self.most:
            raise Refused("too_large", status=413)

    def create(self, upload: Upload) -> Upload:
        """A new upload gets its row."""
        self.require_length(upload.length)
        if self.rules.counts:
            upload.reserve = self.require_reserve(upload.length, upload.members)
        self._validate(upload, upload.length)
        if upload.length == 0:
            self.inspect(upload, b"", 0)
        if any(len(self.waiting_for(one)) >= MOST_WAITING for one in upload.members):
            raise Refused("too_many_finals")
        self.take_room(upload.user, upload.length, upload.members)
        self.uploads.append(upload)
        self.tell("created", upload)
        return upload

    def remove(self, upload: Upload) -> None:
        """Bytes and row go."""
        waited = upload.waits
        upload.gone = True
        self.tell("terminated", upload)
        if waited and DROPS_LATE:
            self.drop_members(upload)

    def drop_members(self, final: Upload) -> None:
        """The final upload waits no more: partial uploads that are used up go."""
        if self.rules.keep_partials:
            return
        for member in dict.fromkeys(final.members):
            is_used = any(
                member in one.members and one.completed is not None
                for one in self.uploads
            )
            is_gone = member.gone or self.is_over(member)
            if is_used and not is_gone and not self.waiting_for(member):
                self.remove(member)

    def append(self, upload: Upload, body: bytes) -> None:
        """Bytes at the offset, in one commit."""
        if not body:
            return
        content = upload.content + body
        try:
            self.inspect(upload, content, upload.length)
        except Refused:
            self.remove(upload)
            raise
        upload.last_start = upload.offset
        upload.content = content
        upload.active = self.now
        self.tell("chunk_received", upload)

    def declare(self, upload: Upload, length: int) -> None:
        """The length that was deferred is known now."""
        if upload.length is not None:
            return
        self.require_length(length)
        for final in self.waiting_for(upload):
            if not final.may_be_made:
                continue
            known = [length if one is upload else one.length for one in final.members]
            self.require_length(sum(filter(None, known)))
        try:
            self._validate(upload, length)
            if length == upload.offset:
                self.inspect(upload, upload.content, length)
        except Refused:
            self.remove(upload)
            raise
        if length > upload.reserve:
            self._require_more(upload, length - upload.reserve)
        upload.length = length

    def complete(self, upload: Upload, md5: str | None = None) -> None:
        """All bytes are there: check, verify, announce, deliver."""
        if upload.status == COMPLETE:
            if md5 not in (None, upload.md5):
                raise Refused("checksum_mismatch")
            return
        if upload.length is None or upload.offset != upload.length:
            raise Refused("incomplete")
        if md5 not in (None, upload.md5):
            # Where the digest is not at hand, taking it counts as activity.
            self.loose.add(upload)
            raise Refused("checksum_mismatch")
        upload.active = self.now
        if upload.kind != PARTIAL:
            self._verify(upload)
        upload.status = COMPLETE
        upload.completed = self.now
        if upload.kind != PARTIAL:
            self.tell("completed", upload)
            upload.pending = "deliver" in self.rules.hooks
            self._deliver(upload)

    def _verify(self, upload: Upload) -> None:
        asked = self._ask("verify", upload, upload.content)
        if asked and policy.refuses_content(upload.content):
            raise Refused("rejected", status=policy.VERIFY_STATUS)

    def _deliver(self, upload: Upload) -> bool:
        if not upload.pending:
            return False
        upload.attempts += 1
        upload.delivery_started = self.now
        self._ask("deliver", upload, upload.content)
        upload.pending = policy.fails_to_deliver(upload.filename, upload.attempts)
        return not upload.pending

    def deliver_pending(self) -> list[tuple[Upload, bool]]:
        """The command: which events, and were they delivered?"""
        due = [
            one
            for one in self.there()
            if one.pending
            and (one.delivery_started or self.now) <= self.now - pause(one.attempts)
        ]
        due.sort(key=lambda upload: upload.id or "")
        return [(upload, self._deliver(upload)) for upload in due]
