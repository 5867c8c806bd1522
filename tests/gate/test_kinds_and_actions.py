"""Every method of every dialect on every kind of upload in every state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import pytest
from werkzeug.test import TestResponse

from flask_chunked.engine import verification
from tests.apps import dispose
from tests.gate.probes import BLIND_PROBES, PROBES, Probe
from tests.gate.recorder import FINAL, ORDINARY, PARTIAL
from tests.gate.stands import OWNER, STATES, STRANGER, Snapshot, Stand, Subject
from tests.gate.world import clear

#: What the owner is answered. ``+``: the upload may change. ``-``: refused, and the
#: completion that a process died over is taken back.
TABLES = {
    # dead: a process died over its completion. busy: one is verifying. moved: the
    # application took the file away. late: not removed yet. gone: its record is kept.
    ORDINARY: """
                 empty  half  full  dead  busy  done  moved  late  gone  removed
    look         200    200   200   200   200   200   200    410   410   404
    tus look     200    200   200+  200+  423   200   200    410   410   404
    bytes        204+   204+  413   413   413   413   413    410   410   404
    no bytes     204    204   204+  204+  423   204   204    410   410   404
    elsewhere    409    409   409   409   409   409   409    410   410   404
    chunk        200+   200+  400   400   400   400   400    410   410   404
    right        400    400   200+  200+  503   200   200    410   410   404
    wrong        400    400   400-  400-  503   400   400    410   410   404
    no checksum  400    400   400   400   400   400   400    410   410   404
    delete       204+   204+  204+  204+  204+  204+  204+   204+  204+  404
    content      404    404   404   404   404   200   404    404   404   404
    """,
    # stale: complete, and not named by a final upload for too long.
    PARTIAL: """
                 empty  half  full  dead  done  late  stale  gone  removed
    look         200    200   200   200   200   410   410    410   404
    tus look     200    200   200+  200+  200   410   410    410   404
    bytes        204+   204+  413   413   413   410   410    410   404
    no bytes     204    204   204+  204+  204   410   410    410   404
    elsewhere    409    409   409   409   409   410   410    410   404
    chunk        403    403   403   403   403   403   403    403   404
    right        403    403   403   403   403   403   403    403   404
    wrong        403    403   403   403   403   403   403    403   404
    no checksum  403    403   403   403   403   403   403    403   404
    delete       204+   204+  204+  204+  204+  204+  204+   204+  404
    content      404    404   404   404   404   404   404    404   404
    """,
    # half, full: so much of it is made. idle: half, and its maker died.
    FINAL: """
                 waiting  half  full  idle  dead  busy  done  moved  late  gone  removed
    look         200      200   200   200   200   200   200   200    410   410   404
    tus look     200      200   200   200+  200+  200   200   200    410   410   404
    bytes        403      403   403   403   403   403   403   403    403   403   404
    no bytes     403      403   403   403   403   403   403   403    403   403   404
    elsewhere    403      403   403   403   403   403   403   403    403   403   404
    chunk        403      403   403   403   403   403   403   403    403   403   404
    right        403      403   403   403   403   403   200   200    403   403   404
    wrong        403      403   403   403   403   403   400   200    403   403   404
    no checksum  403      403   403   403   403   403   403   403    403   403   404
    delete       204+     204+  204+  204+  204+  204+  204+  204+   204+  204+  404
    content      404      404   404   404   404   404   200   404    404   404   404
    """,
}


def cells(table: str) -> dict[tuple[str, str], str]:
    """(row, state) -> what is answered."""
    first, *lines = table.strip().splitlines()
    states = first.split()
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        row, answers = line[:16].strip(), line[16:].split()
        assert len(answers) == len(states), line
        found |= {
            (row, state): text for state, text in zip(states, answers, strict=True)
        }
    return found


#: What is sent to an upload.
EVERY = (*BLIND_PROBES, *PROBES)
ANSWERS = {kind: cells(table) for kind, table in TABLES.items()}


@pytest.fixture
def stand(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stand]:
    # Requests that wait for a verification look once.
    monkeypatch.setattr(verification, "PATIENCE", 0.0)
    made = Stand(tmp_path_factory.mktemp("stand"))
    yield made
    dispose(made.site.app)


def test_the_tables_have_every_state_and_every_request() -> None:
    rows = {probe.row for probe in PROBES}
    for kind, states in STATES.items():
        assert ANSWERS[kind].keys() == set(product(rows, states))


def sample(first: int) -> list[Probe]:
    """A third of each row's probes, one at least, beginning with another each time."""
    by_row: dict[str, list[Probe]] = {}
    for probe in EVERY:
        by_row.setdefault(probe.row, []).append(probe)
    return [
        probes[(first + number) % len(probes)]
        for probes in by_row.values()
        for number in range(0, len(probes), 3)
    ]


def test_sample_has_each_row_always_and_each_probe_in_some_state() -> None:
    for states in STATES.values():
        samples = [sample(first) for first in range(len(states))]
        assert {probe for probes in samples for probe in probes} == set(EVERY)
        for probes in samples:
            assert {probe.row for probe in probes} == {probe.row for probe in EVERY}


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("user", [OWNER, STRANGER])
@pytest.mark.parametrize(
    "share", ["sample", pytest.param("all", marks=pytest.mark.slow)]
)
def test_every_request_is_answered_as_the_table_says(
    stand: Stand, kind: str, user: str, share: str
) -> None:
    wrong = [
        f"{kind} {state}, {line}"
        for first, state in enumerate(STATES[kind])
        for line in visit(
            stand, kind, state, user, EVERY if share == "all" else sample(first)
        )
    ]
    assert not wrong, "\n".join(["", *wrong])


def visit(
    stand: Stand, kind: str, state: str, user: str, probes: Sequence[Probe]
) -> Iterator[str]:
    """Send these probes; what is wrong with their answers or their effects."""
    texts = {probe: wanted(probe, kind, state, user) for probe in probes}
    refused = [probe for probe, text in texts.items() if "400" <= text < "600"]
    refused = [probe for probe in refused if not texts[probe].endswith("-")]
    others = [probe for probe in texts if probe not in refused]
    subject, before = begin(stand, kind, state)
    for probe in refused:
        wrong = list(judge(probe, texts[probe], send(stand, probe, subject, user)))
        yield from wrong
        if wrong:
            subject, before = begin(stand, kind, state)
    # Looked at once for all, and one by one only if something is wrong.
    suspects = refused if before != stand.snapshot() else ()
    is_spent = bool(suspects)
    for probe in [*others, *suspects]:
        if is_spent:
            subject, before = begin(stand, kind, state)
        answer = send(stand, probe, subject, user)
        after = stand.snapshot()
        is_spent = before != after
        if probe in others:
            yield from judge(probe, texts[probe], answer)
        if not may_change(texts[probe], before, after):
            yield f"{probe.row}, {probe.name}: changed by {answer.status_code}"


def judge(probe: Probe, text: str, answer: TestResponse) -> Iterator[str]:
    """What is wrong with the answer."""
    name = f"{probe.row}, {probe.name}"
    if f"{answer.status_code}" != text[:3]:
        yield f"{name}: {answer.status_code} instead of {text}"
    if not is_whole(answer):
        yield f"{name}: the body is not as long as announced"


def begin(stand: Stand, kind: str, state: str) -> tuple[Subject, Snapshot]:
    """A new upload in this state, and no other but its members."""
    clear(stand.site)
    url = STATES[kind][state](stand)
    return Subject(url, stand.row(url).offset), stand.snapshot()


def wanted(probe: Probe, kind: str, state: str, user: str) -> str:
    """A stranger finds no upload; what concerns no upload is the same for all."""
    if probe in BLIND_PROBES:
        return probe.row
    return ANSWERS[kind][probe.row, state] if user == OWNER else "404"


def send(stand: Stand, probe: Probe, subject: Subject, user: str) -> TestResponse:
    sent = probe.make(subject)
    headers = {**sent.pop("headers", {}), "X-User": user}
    answer = stand.client.open(**sent, headers=headers)
    with answer:
        answer.get_data()
    return answer


def is_whole(answer: TestResponse) -> bool:
    """Are there as many bytes as ``Content-Length`` says, where there are any?"""
    announced = answer.headers.get("Content-Length")
    has_body = answer.request.method != "HEAD" and answer.status_code != 204
    return announced is None or not has_body or int(announced) == len(answer.data)


def may_change(text: str, before: Snapshot, after: Snapshot) -> bool:
    """Is that all right for this answer?

    A refusal changes nothing; one that takes a completion back, no byte. A look changes
    the fence, so that who still sends is superseded.
    """
    if text.endswith("+") or before == after:
        return True
    free = ["fence"]
    if text.endswith("-"):
        free += ["status", "verify_started_at", "last_activity_at"]
    elif text >= "400":
        return False
    kept = [
        [{**row, **dict.fromkeys(free)} for row in one.rows] for one in (before, after)
    ]
    return kept[0] == kept[1] and before.files == after.files
