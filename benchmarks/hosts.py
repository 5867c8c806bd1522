"""What another host brings: the machines of the example with one host and with two.

``python -m benchmarks.hosts`` measures them in turn, some times, and prints medians. On
one machine the hosts share its processors with nginx, PostgreSQL, SeaweedFS and the
clients. So the processor time of each is counted, too: it tells how far a host with
processors of its own would get, and what hosts share.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from examples.many_machines.machines import running

MIB = 2**20
TICKS = os.sysconf("SC_CLK_TCK")
#: Processes by what their command lines say, for the sum of them and their children.
KINDS = {
    "hosts": "examples.many_machines.app",
    "PostgreSQL": "/many-pg",
    "SeaweedFS": "/seaweedfs/",
    "nginx": "/nginx/nginx.conf",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    :param rate: chunks per second of all clients together.
    :param spent: kind of process -> milliseconds of processor time for one chunk.
    """

    rate: float
    spent: dict[str, float]


def upload(place: str, size: int, chunk: int) -> None:
    """One file, over one connection."""
    url = urlsplit(place)
    data = bytes(chunk)
    connection = http.client.HTTPConnection(url.netloc, timeout=120)
    try:
        path = "/uploads/"
        for start in range(0, size, chunk):
            headers = {"Content-Range": f"bytes {start}-{start + chunk - 1}/{size}"}
            connection.request("PUT", path, data, headers)
            answer = connection.getresponse()
            said = answer.read(MIB)
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {answer.reason}")
            if not start:
                path = urlsplit(json.loads(said)["url"]).path
    finally:
        connection.close()


def together(count: int, act: Callable[[], None]) -> float:
    """Seconds that it takes so many at once."""
    line = threading.Barrier(count + 1)
    failed: list[BaseException] = []

    def run() -> None:
        line.wait()
        try:
            act()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    line.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.perf_counter() - began


def processor_time() -> Counter[str]:
    """Kind of process -> milliseconds since they were started."""
    kinds: dict[int, str] = {os.getpid(): "clients"}
    spent: Counter[str] = Counter()
    # Children have higher numbers than their parents, until numbers begin anew.
    for pid in sorted(int(path.name) for path in Path("/proc").glob("[0-9]*")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue
        kind = next((kind for kind, mark in KINDS.items() if mark in command), None)
        kind = kinds.get(pid) or kind or kinds.get(int(fields[1]))
        if kind is not None:
            kinds[pid] = kind
            spent[kind] += (int(fields[11]) + int(fields[12])) * 1000 // TICKS
    return spent


def measure(hosts: int, clients: int, size: int, chunk: int) -> Measured:
    """All clients together, after each has sent a chunk."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory), 0, count=hosts, quiet=True) as machines,
    ):
        together(clients, lambda: upload(machines.url, chunk, chunk))
        before = processor_time()
        seconds = together(clients, lambda: upload(machines.url, size, chunk))
        spent = processor_time() - before
    chunks = clients * (size // chunk)
    each = {kind: total / chunks for kind, total in spent.items()}
    return Measured(chunks / seconds, each)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hosts")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    works = {"8 MiB chunks": (64 * MIB, 8 * MIB), "64 KiB chunks": (MIB, MIB // 16)}
    for name, (size, chunk) in works.items():
        found: dict[int, list[Measured]] = {1: [], 2: []}
        for _ in range(arguments.repeat):
            for hosts, seen in found.items():
                seen.append(measure(hosts, arguments.clients, size, chunk))
        for hosts, seen in found.items():
            rates = [one.rate for one in seen]
            rate = statistics.median(rates)
            print(
                f"{name}, {hosts} host(s): {rate:.1f} chunks/s, "
                f"{rate * chunk / MIB:.1f} MiB/s "
                f"({min(rates):.1f} to {max(rates):.1f} chunks/s)",
            )
            for kind in ("clients", *KINDS):
                spent = statistics.median(one.spent[kind] for one in seen)
                print(f"  {kind}: {spent:.1f} ms of processor time a chunk", flush=True)


if __name__ == "__main__":
    main()
