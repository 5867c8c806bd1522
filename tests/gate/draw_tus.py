"""Draws tus requests: creations, final uploads, PATCH."""

from __future__ import annotations

from tests.dialects.tus import checksum, metadata
from tests.gate.picks import SIZES, TUS, UNKNOWN, Picks
from tests.gate.requests import DENY, OCTETS, PREFIX, TUS_OCTETS, USER, Request
from tests.gate.rules import OWNERS
from tests.gate.uploads import COMPLETE, FINAL, PARTIAL, UPLOADING, Upload


class TusDraw(Picks):
    """Requests with ``Tus-Resumable``."""

    def _tus_create(self) -> Request:
        rng = self._rng
        headers = {**TUS, **self._who()}
        length: int | None = self._huge() if self._is(0.02) else self._size()
        if self._is(0.25):
            length = None
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(length)
        if self._is(0.4):
            headers["Upload-Concat"] = "partial"
        name = self._name()
        pairs = {"filename": name} if self._is(0.9) else {}
        if self._model.rules.titled and self._is(0.95):
            pairs["title"] = rng.choice(["One", "Two"])
        if pairs:
            headers["Upload-Metadata"] = metadata(**pairs)
        if self._is(0.03):
            self._break_creation(headers)
        if self._is(0.4):
            return Request("POST", f"{PREFIX}/", headers)
        return self._creation_with_body(headers, length)

    def _break_creation(self, headers: dict[str, str]) -> None:
        name, value = self._rng.choice(
            [
                ("Upload-Length", "-1"),
                ("Upload-Length", "9" * 19),
                ("Upload-Length", str(self._huge())),
                ("Upload-Defer-Length", "2"),
                ("Upload-Defer-Length", "1"),
                ("Upload-Concat", "final"),
                ("Upload-Metadata", "filename !"),
                ("Tus-Resumable", "0.2.2"),
            ]
        )
        headers[name] = value

    def _creation_with_body(
        self, headers: dict[str, str], length: int | None
    ) -> Request:
        size = self._rng.choice(SIZES)
        if length is not None and length <= SIZES[-1]:
            size = length
        how = self._rng.random()
        if how < 0.3:
            size = self._rng.randrange(size + 1)
        elif how < 0.34:
            size += 3
        whole = size == length
        body = self._bytes(size, first=True, last=whole)
        headers["Content-Type"] = OCTETS if self._is(0.03) else TUS_OCTETS
        self._add_checksum(headers, body)
        chunked = self._is(0.08)
        return Request("POST", f"{PREFIX}/", headers, body, chunked=chunked)

    def _add_checksum(self, headers: dict[str, str], body: bytes) -> None:
        if not self._is(0.25):
            return
        kind = self._rng.choice(["sha1", "sha1", "md5", "sha256", "crc32"])
        how = self._rng.random()
        right = body if how < 0.75 else body + b"x"
        value = checksum(kind, right)
        if how > 0.96:
            value = self._rng.choice(["sha3 AAAA", "sha1 AAAA", "sha1 !"])
        headers["Upload-Checksum"] = value

    def _tus_patch(self) -> Request:
        rng = self._rng
        upload = self._upload(self._takes_patches)
        headers = {**TUS, **self._who(upload), "Content-Type": TUS_OCTETS}
        offset = 0 if upload is None else upload.offset
        length = None if upload is None else upload.length
        declared: int | None = None
        if length is None:
            size = rng.choice(SIZES)
            declared = offset + size if self._is(0.7) else self._size()
            declared = None if self._is(0.4) else declared
            if offset and self._is(0.35):
                # As clients end whose stream is a multiple of their chunks.
                size, declared = 0, offset
            if self._is(0.03):
                declared = self._huge()
        else:
            size = self._part_of(length - offset)
        if declared is not None:
            headers["Upload-Length"] = str(declared)
        elif length is not None and self._is(0.04):
            headers["Upload-Length"] = str(rng.choice([length, length + 1]))
        end = declared if length is None else length
        body = self._bytes(size, first=offset == 0, last=offset + size == end)
        at = offset if self._is(0.95) else max(0, offset + rng.choice([-1, 1, 20]))
        headers["Upload-Offset"] = str(at)
        self._add_checksum(headers, body)
        if self._is(0.015):
            name, value = rng.choice(
                [
                    ("Upload-Offset", "x"),
                    ("Content-Type", OCTETS),
                    ("Upload-Length", ""),
                ]
            )
            headers[name] = value
        if self._is(0.01):
            del headers["Tus-Resumable"]
        chunked = self._is(0.1)
        return Request("PATCH", self._path(upload), headers, body, chunked=chunked)

    def _takes_patches(self, one: Upload) -> bool:
        full = one.offset == one.length and not self._is(0.2)
        return one.status == UPLOADING and one.kind != FINAL and not full

    def _final(self) -> Request:
        rng, model = self._rng, self._model
        partials = [one for one in model.there() if one.kind == PARTIAL]
        if self._is(0.95):
            partials = [one for one in partials if not model.is_over(one)]
        owner = rng.choice(partials).user if partials else None
        mine = [one for one in partials if one.user == owner]
        done = [one for one in mine if one.status == COMPLETE]
        pool = done if done and self._is(0.6) else mine
        members = [str(rng.choice(pool).id) for _ in range(rng.randrange(1, 4)) if pool]
        waited = max(mine, key=lambda one: len(model.waiting_for(one)), default=None)
        if waited is not None and self._is(0.3):
            members.append(str(waited.id))
        if self._is(0.07) or not members:
            members.insert(0, rng.choice([UNKNOWN, "x", *self._ids()]))
        rng.shuffle(members)
        before = rng.choice(
            ["", f"{PREFIX}/", f"{PREFIX}/", "https://a.example/uploads/"]
        )
        urls = " ".join(before + one for one in members)
        headers = {**TUS, "Upload-Concat": f"final;{urls}"}
        if owner is None and self._is(0.15):
            # Partial uploads of no owner are for all who know their URLs.
            owner = rng.choice(OWNERS)
        if owner is not None and self._is(0.97):
            headers[USER] = owner
        pairs = {"filename": self._name()} if self._is(0.9) else {}
        if model.rules.titled and self._is(0.95):
            pairs["title"] = "Joined"
        if pairs:
            headers["Upload-Metadata"] = metadata(**pairs)
        if self._is(0.02):
            headers[DENY] = rng.choice(["create", "read", "complete"])
        if self._is(0.02):
            headers["Upload-Length"] = "20"
        if self._is(0.02):
            headers["Content-Type"] = TUS_OCTETS
            return Request("POST", f"{PREFIX}/", headers, b"bytes")
        return Request("POST", f"{PREFIX}/", headers)
