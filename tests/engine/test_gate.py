"""The gate: a table of kinds and actions, and the hooks of each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from flask_chunked.engine.gate import (
    MAX_LENGTH,
    RULES,
    Action,
    Gate,
    Kind,
    allows,
    kind_of,
    require,
    require_file,
    rules_of,
)
from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    ChunkedUploadError,
    FinalUpload,
    PartialUpload,
    TooLarge,
    UnknownUpload,
)
from flask_chunked.storage.base import State, StorageSettings
from flask_chunked.storage.memory import MemoryStorage
from tests.engine.fakes import Bench, RecordingPolicy, ScriptedReader

DIALECTS = ("tus", "content-range", None)
Refused = type[ChunkedUploadError] | None
#: Kind -> the fields of a new upload of it.
CREATED: dict[Kind, dict[str, Any]] = {
    Kind.ORDINARY: {},
    Kind.PARTIAL: {"partial": True, "concat": "partial"},
    Kind.FINAL: {"concat": "final;a b"},
}
#: (kind, action, dialect) -> the refusal; all else is allowed.
REFUSALS: dict[tuple[Kind, Action, str | None], Refused] = {
    (Kind.PARTIAL, Action.APPEND, "content-range"): PartialUpload,
    (Kind.PARTIAL, Action.COMPLETE, "content-range"): PartialUpload,
    (Kind.PARTIAL, Action.DOWNLOAD, "tus"): UnknownUpload,
    (Kind.PARTIAL, Action.DOWNLOAD, "content-range"): UnknownUpload,
    (Kind.PARTIAL, Action.DOWNLOAD, None): UnknownUpload,
    (Kind.FINAL, Action.APPEND, "tus"): FinalUpload,
    (Kind.FINAL, Action.APPEND, "content-range"): FinalUpload,
    (Kind.FINAL, Action.APPEND, None): FinalUpload,
    (Kind.FINAL, Action.COMPLETE, "tus"): FinalUpload,
    (Kind.FINAL, Action.COMPLETE, "content-range"): FinalUpload,
    (Kind.FINAL, Action.COMPLETE, None): FinalUpload,
}
#: Allowed once the upload is complete, to compare a checksum.
COMPARED = {
    (Kind.FINAL, Action.COMPLETE, "content-range", Status.COMPLETE),
    (Kind.FINAL, Action.COMPLETE, None, Status.COMPLETE),
}


def upload_of(kind: Kind, status: Status = Status.UPLOADING) -> Upload:
    return replace(Bench().create(10, **CREATED[kind]), status=status)


def refusal(upload: Upload, action: Action, dialect: str | None) -> Refused:
    try:
        require(upload, action, dialect)
    except ChunkedUploadError as error:
        return type(error)
    return None


@pytest.mark.parametrize("action", Action, ids=lambda action: action.value)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_every_kind_allows_what_the_table_says_in_every_state(
    kind: Kind, action: Action
) -> None:
    for status, dialect in product(Status, DIALECTS):
        expected = REFUSALS.get((kind, action, dialect))
        if (kind, action, dialect, status) in COMPARED:
            expected = None
        upload = upload_of(kind, status)
        assert refusal(upload, action, dialect) is expected, (status, dialect)
        if dialect is not None:
            assert allows(upload, action, dialect) is (expected is None)


def test_the_table_knows_every_kind() -> None:
    assert list(RULES) == list(Kind)
    for kind in Kind:
        upload = upload_of(kind)
        assert kind_of(upload) is kind
        assert rules_of(upload) is RULES[kind]


def test_refusals_of_a_kind_are_forbidden_by_code() -> None:
    for error, code in (
        (PartialUpload, "partial_upload"),
        (FinalUpload, "final_upload"),
    ):
        raised = error()
        assert (raised.status, raised.code) == (403, code)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_only_a_file_is_given_to_an_application(kind: Kind) -> None:
    if kind is not Kind.PARTIAL:
        require_file(upload_of(kind))
        return
    with pytest.raises(PartialUpload, match="not a file"):
        require_file(upload_of(kind))


# -- hooks and signals -----------------------------------------------------------------


@pytest.fixture
def policy() -> RecordingPolicy:
    return RecordingPolicy()


@pytest.fixture
def gate(policy: RecordingPolicy) -> Gate:
    return Gate(policy, MemoryStorage(StorageSettings(base="/nowhere")))


ASK: dict[str, Callable[[Gate, Upload], object]] = {
    "validate": lambda gate, upload: gate.validate(upload),
    "inspect": lambda gate, upload: gate.inspect(upload, b"head"),
    "verify": lambda gate, upload: gate.verify(upload),
    "deliver": lambda gate, upload: gate.deliver(upload),
}
IS_ASKED: dict[str, Callable[[Gate, Upload], bool]] = {
    "inspect": Gate.inspects,
    "verify": Gate.verifies,
    "deliver": Gate.delivers,
}


@pytest.mark.parametrize("hook", ASK)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_hooks_are_called_for_files_only(
    gate: Gate, policy: RecordingPolicy, kind: Kind, hook: str
) -> None:
    upload = upload_of(kind)
    is_file = kind is not Kind.PARTIAL
    ASK[hook](gate, upload)
    assert [name for name, _ in policy.calls] == ([hook] if is_file else [])
    if hook in IS_ASKED:
        assert IS_ASKED[hook](gate, upload) is is_file


@pytest.mark.parametrize("hook", IS_ASKED)
def test_a_hook_that_the_application_lacks_is_not_called(
    gate: Gate, policy: RecordingPolicy, hook: str
) -> None:
    policy.inspects = policy.verifies = policy.delivers = False
    upload = upload_of(Kind.ORDINARY)
    ASK[hook](gate, upload)
    assert policy.calls == []
    assert IS_ASKED[hook](gate, upload) is False
    assert gate.asks_inspect is False


#: Signal -> a partial upload has it.
SIGNALS = {
    "created": True,
    "chunk_received": True,
    "completed": False,
    "terminated": True,
    "expired": True,
}


@pytest.mark.parametrize("event", SIGNALS)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_a_partial_upload_has_every_signal_but_that_of_a_file(
    gate: Gate, policy: RecordingPolicy, kind: Kind, event: str
) -> None:
    upload = upload_of(kind)
    is_sent = kind is not Kind.PARTIAL or SIGNALS[event]
    gate.announce(event, upload)
    assert [name for name, _ in policy.calls] == ([event] if is_sent else [])
    assert gate.is_heard(event, upload) is is_sent


def test_a_signal_without_a_listener_is_not_heard(
    gate: Gate, policy: RecordingPolicy
) -> None:
    policy.unheard = {"chunk_received"}
    assert not gate.is_heard("chunk_received", upload_of(Kind.ORDINARY))


# -- lengths ---------------------------------------------------------------------------


class SmallStorage(MemoryStorage):
    """Limits the length to that of the upload's state, or to 100 bytes without one."""

    def max_length(self, state: State | None = None) -> int | None:
        return 100 if state is None else state["most"]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("largest", "storage", "state", "most"),
    [
        pytest.param(
            None, MemoryStorage, None, MAX_LENGTH, id="nothing-but-the-number"
        ),
        pytest.param(2**60, MemoryStorage, None, MAX_LENGTH, id="policy-above-it"),
        pytest.param(50, MemoryStorage, None, 50, id="policy"),
        pytest.param(None, SmallStorage, None, 100, id="storage"),
        pytest.param(None, SmallStorage, {"most": 70}, 70, id="storage-of-the-upload"),
        pytest.param(50, SmallStorage, None, 50, id="policy-below-storage"),
        pytest.param(200, SmallStorage, None, 100, id="storage-below-policy"),
        pytest.param(0, MemoryStorage, None, 0, id="nothing-at-all"),
    ],
)
def test_a_length_is_limited_by_policy_storage_and_number(
    policy: RecordingPolicy,
    largest: int | None,
    storage: type[MemoryStorage],
    state: State | None,
    most: int,
) -> None:
    policy.largest = largest
    gate = Gate(policy, storage(StorageSettings(base="/nowhere")))
    gate.require_length(None, state)
    gate.require_length(most, state)
    with pytest.raises(TooLarge) as caught:
        gate.require_length(most + 1, state)
    assert caught.value.limit == most
    # Each dialect has its own status for the policy's limit.
    assert caught.value.status == (400 if most == largest else 413)


def test_the_largest_length_is_a_number_that_json_holds_exactly() -> None:
    assert MAX_LENGTH == 9007199254740991
    assert float(MAX_LENGTH) == MAX_LENGTH
    assert float(MAX_LENGTH + 2) != MAX_LENGTH + 2


@pytest.mark.parametrize("make", ["create", "require_room"])
def test_creation_refuses_a_length_above_it(make: str) -> None:
    bench = Bench()
    with pytest.raises(TooLarge):
        if make == "create":
            bench.create(MAX_LENGTH + 1)
        else:
            bench.engine.create.require_room("ann", MAX_LENGTH + 1)
    assert bench.repository.rows == {}
    assert bench.policy.calls == []
    assert bench.create(MAX_LENGTH).length == MAX_LENGTH


def test_members_whose_sum_is_above_it_make_no_final() -> None:
    bench = Bench()
    a, b = bench.material(MAX_LENGTH), bench.material(1)
    assert bench.final(a).length == MAX_LENGTH
    with pytest.raises(TooLarge):
        bench.final(a, b)


# -- on the roads of the engine --------------------------------------------------------


@pytest.mark.parametrize("status", [Status.UPLOADING, Status.COMPLETE])
def test_a_final_upload_takes_no_bytes_by_any_method(status: Status) -> None:
    bench = Bench()
    final = bench.final(bench.partial(b"abc"))
    if status is Status.COMPLETE:
        final = bench.engine.concatenate.assemble(
            final, bench.engine.concatenate.members(final)
        )
    before = bench.row(final)
    stage = bench.storage.stage()
    stage.write(b"abc")
    roads: list[Callable[[], object]] = [
        lambda: bench.engine.append.stream(final, 0, 3, ScriptedReader(b"abc")),
        lambda: bench.engine.append.whole(final, 0, stage),
        lambda: bench.engine.append.hold(final, 0, ScriptedReader(b"abc")).__enter__(),
    ]
    if status is Status.UPLOADING:
        roads.append(lambda: bench.engine.complete.request(final, None))
    for road in roads:
        with pytest.raises(FinalUpload):
            road()
    assert bench.row(final) == before
