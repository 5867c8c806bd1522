"""Rows of the quota table: conditions, locks, and sums at both ends of the range."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.database.quota_counts import MAX_SUM
from tests.dialects.tus import Tus
from tests.gate.sums import Watch

from ..apps import rows
from ..exchange import begin, finish, put_raw, send
from .stored_sums import DATA, limited, set_quota, sums


def test_rows_changed_by_hand_never_lead_below_zero(make: Callable[..., Flask]) -> None:
    app = limited(make)
    send(app.test_client(), DATA)
    set_quota(app, stored=1)
    assert app.test_client().delete(f"/uploads/{rows(app)[0].id}").status_code == 204
    assert sums(app) == (0, 0, 0)


def test_a_sum_stops_at_the_most_that_a_column_holds(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    begun = begin(app.test_client(), DATA, 3)
    set_quota(app, stored=MAX_SUM - 1, size=MAX_SUM - 1)
    assert finish(app.test_client(), begun, DATA).status_code == 200
    told = Watch(app).look().told[""]
    assert (told.uploads, told.size, told.stored) == (0, MAX_SUM - 4, MAX_SUM)
    answer = put_raw(app.test_client(), b"x")
    assert answer.status_code == 413
    assert "of which 0 are left" in answer.text


def test_a_limit_that_is_larger_than_a_column_is_no_error(
    make: Callable[..., Flask],
) -> None:
    class Generous(ChunkedUploadBlueprint):
        def get_max_stored_bytes(self) -> int | None:
            return 2**70

        get_max_total_bytes = get_max_open_uploads = get_max_stored_bytes

    app = make(blueprint_class=Generous)
    tus = Tus(app.test_client())
    assert tus.final(tus.partial(DATA)).status_code == 201
    assert sums(app) == (0, 0, 6)
