"""Which refusal comes first, and that a refused request does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from flask import Flask

from tests.apps import dispose, rows
from tests.conftest import AppFactory
from tests.dialects.tus import BASE, BYTES, TUS, Tus
from tests.exchange import md5
from tests.gate.probes import CHUNK_PROBES, COMPLETION_PROBES, TUS_PROBES
from tests.gate.recorder import FINAL, PARTIAL, Refusal
from tests.gate.stands import (
    CONTENT,
    HALF,
    OWNER,
    STATES,
    STRANGER,
    Stand,
    Subject,
)
from tests.gate.test_kinds_and_actions import send

PARTIALS, FINALS, FORBIDDEN, EXPIRED = (
    "only a tus client",
    "final upload",
    "permission",
    "expired",
)
NOT_FOUND = "Not found"


@pytest.fixture
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(tmp_path_factory.mktemp("stand"))
    yield made
    dispose(made.site.app)


CHUNKS = [probe for probe in CHUNK_PROBES if "upload_id" not in probe.name]
COMPLETIONS = [probe for probe in COMPLETION_PROBES if probe.row == "right"]
PATCHES = [probe for probe in TUS_PROBES if probe.row in ("bytes", "no bytes")]
#: Kind and state; whether ``authorize`` agrees; who asks; what is answered.
ORDER = [
    (PARTIAL, "late", False, STRANGER, NOT_FOUND),
    (PARTIAL, "late", False, OWNER, FORBIDDEN),
    (PARTIAL, "late", True, OWNER, PARTIALS),
    (PARTIAL, "gone", True, OWNER, PARTIALS),
    (PARTIAL, "done", True, OWNER, PARTIALS),
    (FINAL, "late", False, STRANGER, NOT_FOUND),
    (FINAL, "late", False, OWNER, FORBIDDEN),
    (FINAL, "late", True, OWNER, FINALS),
    (FINAL, "gone", True, OWNER, FINALS),
    (FINAL, "waiting", True, OWNER, FINALS),
]
PROBES = {"append": CHUNKS, "complete": COMPLETIONS, "tus append": PATCHES}


@pytest.mark.parametrize(("kind", "state", "agrees", "user", "says"), ORDER)
def test_permission_comes_before_the_kind_and_the_kind_before_time(
    stand: Stand, kind: str, state: str, agrees: bool, user: str, says: str
) -> None:
    url = STATES[kind][state](stand)
    subject = Subject(url, stand.row(url).offset)
    before = stand.snapshot()
    for what, probes in PROBES.items():
        right = says
        if says == PARTIALS and what == "tus append":
            # This dialect may append to it, as long as it lives and is not complete.
            right = EXPIRED if state != "done" else ""
        for probe in probes:
            if not agrees:
                action = what.rpartition(" ")[2]
                stand.site.blueprint.refusal = Refusal(f"authorize {action}")
            answer = send(stand, probe, subject, user)
            stand.turn()
            assert right in answer.get_data(as_text=True), (probe, answer.status)
    assert before == stand.snapshot()


# -- what was done to a final upload in the first edition ----------------------------


ATTACKS: list[Callable[[Tus, str], Any]] = [
    lambda tus, url: tus.client.put(
        url, data=b"XYZ", headers={"Content-Range": "bytes 0-2/6"}
    ),
    lambda tus, url: tus.client.put(
        url, data=b"XYZ", headers={"Content-Range": "bytes 3-5/6"}
    ),
    lambda tus, url: tus.client.post(url, data={"md5": md5(b"abc")}),
    lambda tus, url: tus.patch(url, 0, b"XYZ"),
    lambda tus, url: tus.patch(url, 3, b"XYZ"),
]


def test_a_finals_content_is_its_members_whatever_is_sent_to_it(
    app_factory: AppFactory,
) -> None:
    tus = Tus(app_factory(CHUNKED_UPLOAD_DOWNLOADS=True).test_client())
    a, b = tus.partial(b"abc"), tus.partial(b"d", 3)
    final = tus.final(a, b).headers["Location"]
    for attack in ATTACKS:
        assert attack(tus, final).status_code == 403
    assert tus.patch(b, 1, b"ef").status_code == 204
    for attack in ATTACKS:
        assert attack(tus, final).status_code in (400, 403)
    assert tus.content(final) == CONTENT


# -- method override -----------------------------------------------------------------


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory()


def test_only_post_is_overridden(app: Flask) -> None:
    tus = Tus(app.test_client())
    url = tus.create(len(CONTENT))
    before = [(row.id, row.offset) for row in rows(app)]
    sent = {
        "Upload-Length": "3",
        "Upload-Offset": "0",
        "Content-Range": f"bytes 0-{HALF - 1}/{len(CONTENT)}",
    }
    for headers, real, method, path in product(
        ({}, TUS, BYTES),
        ("GET", "HEAD", "OPTIONS"),
        ("POST", "PUT", "PATCH", "DELETE", "patch"),
        (BASE, url),
    ):
        overridden = {**sent, **headers, "X-HTTP-Method-Override": method}
        tus.client.open(path, method=real, headers=overridden, data=CONTENT[:HALF])
        found = [(row.id, row.offset) for row in rows(app)]
        assert found == before, (headers, real, method, path)
