"""The benchmarks work, on sizes that measure nothing."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import crowd
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.client import MIB, ClientError, Slice, open_socket
from benchmarks.dialects import Job, content_range, put, put_hashed, tus, tus_at_once
from benchmarks.install import Unavailable, sink
from benchmarks.large import check, upload
from benchmarks.measure import Case, Column, Plan, Turn, measure
from benchmarks.options import Options
from benchmarks.receivers import Command, Receiver, floor, hash_loop, ours
from benchmarks.receivers import sink as sink_receiver
from benchmarks.small import many

SPEED = Column("mib_s", "MiB/s")


def plan_of(*cases: Case) -> Plan:
    return Plan("A test", cases, (SPEED,), (), 2 * MIB, SPEED)


def test_our_server_is_measured_in_every_dialect(tmp_path: Path) -> None:
    # Whose small files stay; the large ones are removed.
    server, small = ours("ours"), ours("ours, small")
    nothing = floor(workers=1, threads=8)
    raw, form = (content_range(form=form, digest="md5") for form in (False, True))
    size, chunk = MIB + 3, 300_000
    measured = measure(
        plan_of(
            Case("tus", server, upload(tus, size)),
            Case("tus chunks", server, upload(tus, size, chunk)),
            Case("tus at once", server, upload(tus_at_once, size)),
            Case("raw", server, upload(raw, size, digest="md5")),
            Case("raw chunks", server, upload(raw, size, chunk, digest="md5")),
            Case("forms", server, upload(form, size, chunk, digest="md5")),
            Case("small", small, many(form, 20, digest="md5")),
            Case("small at once", small, many(tus_at_once, 20)),
            Case("floor", nothing, many(tus, 20)),
            Case("floor at once", nothing, many(tus_at_once, 20)),
        ),
        repeat=1,
        directory=tmp_path,
    )
    assert measured.failed == {}
    assert {label: len(samples) for label, samples in measured.samples.items()} == {
        "tus": 1,
        "tus chunks": 1,
        "tus at once": 1,
        "raw": 1,
        "raw chunks": 1,
        "forms": 1,
        "small": 1,
        "small at once": 1,
        "floor": 1,
        "floor at once": 1,
    }
    sample = measured.samples["raw chunks"][0]
    assert 0 < sample["transfer_s"] < sample["total_s"]
    assert sample["finish_ms"] > 0
    assert sample["peak_mib"] > 10
    assert list(tmp_path.iterdir()) == []


def test_command_prints_and_keeps_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--directory", str(tmp_path / "data"), "--results", str(tmp_path)]
    shown = ["--table", str(tmp_path / "all.md"), "--plot", str(tmp_path)]
    said = ["md5", "--size", "1", "--repeat", "2", "--peers", "hash-loop"]
    assert main([*said, *where, *shown]) == 0
    printed = capsys.readouterr().out
    assert "ours, durable, raw PUT  " in printed
    assert "bare loop" in printed
    kept = json.loads((tmp_path / "md5.json").read_text())
    assert kept["settings"]["size"] == MIB
    case = kept["cases"]["ours, raw PUT"]
    assert len(case["repetitions"]) == 2
    total = case["summary"]["total_s"]
    assert total["least"] <= total["median"] <= total["greatest"]
    ratios = [goal for goal in kept["goals"] if goal["over"] == "bare loop"]
    assert [len(goal["values"]) for goal in ratios] == [2, 2]
    assert kept["machine"]["cores"] >= 1
    assert str(tmp_path) not in json.dumps(kept)
    assert (tmp_path / "all.md").read_text().count("| ours, raw PUT |") == 2
    picture = ElementTree.fromstring((tmp_path / "md5.svg").read_text())
    assert len(picture.findall("{*}path")) == 3

    assert main(["md5", "--show", *where]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("mode", ["splice", "recv"])
def test_sink_stores_what_was_sent(tmp_path: Path, mode: str) -> None:
    try:
        sink()
    except Unavailable as reason:
        pytest.skip(str(reason))
    receiver = sink_receiver(mode, sync=True)
    case = Case("sink", receiver, upload(put, 2 * MIB - 1))
    measured = measure(plan_of(case), repeat=2, directory=tmp_path)
    assert (measured.failed, measured.left_out) == ({}, {})
    assert len(measured.samples["sink"]) == 2


def test_crowd_leaves_no_idle_connection_to_wait_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "PATIENCE", 5)

    def work(turn: Turn) -> dict[str, float]:
        jobs = [Job(turn.source, "/", 4096, start=4096 * n) for n in range(10)]
        # The loop serves one connection until its end, the others wait.
        many_at_once = crowd.Crowd(turn.server.port, turn.source, 4)
        seconds = many_at_once.run(put_hashed(job) for job in jobs)
        return {"uploads": len(seconds)}

    case = Case("crowd", hash_loop(), work)
    measured = measure(plan_of(case), repeat=1, directory=tmp_path)
    assert measured.failed == {}
    assert measured.samples == {"crowd": [{"uploads": 10}]}


def test_crowd_hangs_up_after_so_many_uploads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "LASTING", 3)
    opened = 0

    def counted(port: int) -> socket.socket:
        nonlocal opened
        opened += 1
        return open_socket(port)

    monkeypatch.setattr(crowd, "open_socket", counted)

    def work(turn: Turn) -> dict[str, float]:
        jobs = [Job(turn.source, "/", 4096, start=4096 * n) for n in range(10)]
        one_after_the_other = crowd.Crowd(turn.server.port, turn.source, 1)
        return {
            "uploads": len(one_after_the_other.run(put_hashed(job) for job in jobs))
        }

    measured = measure(
        plan_of(Case("crowd", hash_loop(), work)), repeat=1, directory=tmp_path
    )
    assert measured.failed == {}
    assert measured.samples == {"crowd": [{"uploads": 10}]}
    # The warm-up closes connections as well: ten uploads each, three on a connection.
    assert opened == 2 * 4


def test_finished_files_are_told_once(tmp_path: Path) -> None:
    kept = replace(hash_loop(), content="files", pattern="*.done")

    def work(turn: Turn) -> dict[str, float]:
        files = turn.server.place.directory / "files"
        files.mkdir(exist_ok=True)
        turn.server.stored_since()
        new = [files / f"{turn.serial}{name}.done" for name in "ab"]
        for path in new:
            path.write_bytes(b"x")
        assert sorted(turn.server.stored_since()) == new
        assert turn.server.stored_since() == []
        assert len(turn.server.stored()) > 2 or turn.is_warm_up
        return {"mib_s": 1.0}

    measured = measure(plan_of(Case("x", kept, work)), repeat=2, directory=tmp_path)
    assert measured.failed == {}


def receiver(peer: str, *argv: str) -> Receiver:
    return Receiver(f"broken {peer}", peer, lambda _: Command(argv), "/", "", "")


def test_missing_peer_is_left_out_and_ours_is_a_failure(tmp_path: Path) -> None:
    fails = (sys.executable, "-c", "raise SystemExit('no luck')")
    work = upload(put_hashed, MIB)
    cases = (
        Case("peer", receiver("nginx", *fails), work),
        Case("ours", receiver("", *fails), work),
        Case("loop", hash_loop(), work),
    )
    measured = measure(plan_of(*cases), repeat=1, directory=tmp_path)
    assert list(measured.samples) == ["loop"]
    assert "no luck" in measured.left_out["peer"]
    assert "no luck" in measured.failed["ours"]


def test_case_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    cases = (
        # It answers 200 with a digest, never 201 with a location.
        Case("wrong dialect", hash_loop(), upload(tus, MIB)),
        Case("right dialect", hash_loop(), upload(put_hashed, MIB)),
    )
    measured = measure(plan_of(*cases), repeat=2, directory=tmp_path)
    assert list(measured.failed) == ["wrong dialect"]
    assert len(measured.samples["right dialect"]) == 2


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "twice"])
def test_what_is_stored_wrongly_is_noticed(tmp_path: Path, damage: str) -> None:
    size = 1000
    kept = replace(hash_loop(), content="files", pattern="*.done")

    def work(turn: Turn) -> dict[str, float]:
        files = turn.server.place.directory / "files"
        files.mkdir(exist_ok=True)
        turn.server.forget_files()
        content = turn.source.read(Slice(0, size))
        (files / "a.done").write_bytes(content)
        check(turn.server, turn.source, size, thorough=True)
        if damage == "missing":
            (files / "a.done").unlink()
        elif damage == "short":
            (files / "a.done").write_bytes(content[:-1])
        elif damage == "changed":
            (files / "a.done").write_bytes(content[:-1] + b"?")
        else:
            (files / "b.done").write_bytes(content)
        with pytest.raises(ClientError, match="stored"):
            check(turn.server, turn.source, size, thorough=True)
        return {"mib_s": 1.0}

    measured = measure(plan_of(Case("x", kept, work)), repeat=1, directory=tmp_path)
    assert measured.failed == {}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_asks_for_figures_that_it_has(name: str) -> None:
    plan = BENCHMARKS[name](replace(Options(), sizes=(MIB, 2 * MIB)))
    labels = [case.label for case in plan.cases]
    assert len(set(labels)) == len(labels)
    assert {goal.case for goal in plan.goals} <= set(labels)
    assert {goal.over for goal in plan.goals} <= {*labels, ""}
    assert plan.chart in plan.columns
    names: dict[str, Receiver] = {}
    for case in plan.cases:
        # One name, one way to build it: the first would stand for both.
        first = names.setdefault(case.receiver.name, case.receiver)
        assert first == case.receiver


@pytest.mark.parametrize("wrong", [["nothing"], ["--peers", "x"], ["--repeat", "0"]])
def test_wrong_command_line_is_refused(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err
