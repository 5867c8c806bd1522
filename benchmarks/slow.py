"""One fast client beside many slow ones, and silent ones that must be disconnected."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.client import MIB, ClientError
from benchmarks.dialects import tus
from benchmarks.figures import Goal, Sample
from benchmarks.install import HERE
from benchmarks.large import upload
from benchmarks.measure import Case, Column, Plan, Turn
from benchmarks.options import Options
from benchmarks.receivers import Server, ours, tus_server
from benchmarks.slowly import silent_seconds

#: Bytes a second that the slow clients send together.
RATE = MIB

#: Uploads of the fast client in one turn.
TIMES = 4


@contextmanager
def slow_clients(server: Server, clients: int) -> Iterator[None]:
    """Keep them at it for the length of the block.

    :raises ClientError: they cannot begin, or the server let one go.
    """
    command = [sys.executable, "-m", "benchmarks.slowly", str(server.port)]
    command += [server.receiver.prefix, str(clients), str(RATE)]
    with subprocess.Popen(
        command,
        cwd=HERE.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise ClientError("the slow clients could not begin")
            yield
            process.stdin.close()
            _, _, lost = process.stdout.readline().split() or ("", "", "all")
            if lost != "0":
                raise ClientError(f"{lost} slow clients were disconnected")
        finally:
            process.kill()


def fast(options: Options, *, beside: int) -> Callable[[Turn], Sample]:
    """Several uploads of the fast client.

    :param beside: slow clients at the same time.
    """
    once = upload(tus, options.size)

    def laps(turn: Turn) -> Sample:
        done = [once(turn) for _ in range(TIMES)]
        seconds = sum(lap["transfer_s"] for lap in done)
        return {
            "mib_s": TIMES * options.size / MIB / seconds,
            "transfer_s": seconds,
            "cpu_s": sum(lap["cpu_s"] for lap in done),
            "peak_mib": max(lap["peak_mib"] for lap in done),
        }

    def work(turn: Turn) -> Sample:
        if turn.is_warm_up:
            return once(turn)
        if not beside:
            return laps(turn)
        with slow_clients(turn.server, beside):
            return laps(turn)

    return work


def silent(options: Options) -> Callable[[Turn], Sample]:
    """Clients that stop sending; how long each keeps its thread."""

    def work(turn: Turn) -> Sample:
        clients = 2 if turn.is_warm_up else options.clients
        server = turn.server
        freed = silent_seconds(
            server.port, server.receiver.prefix, clients, options.seconds + 60
        )
        return {"freed_s": max(freed), "first_freed_s": min(freed)}

    return work


def slow(options: Options) -> Plan:
    """One fast client beside 200 slow ones that send 1 MiB/s together."""
    count = options.clients
    threads = max(256, count + 8)
    cases: list[Case] = []
    goals: list[Goal] = []
    for name, receiver in (
        ("gthread", ours("ours, gthread", threads=threads)),
        ("gevent", ours("ours, gevent", worker_class="gevent")),
        ("@tus/server", tus_server()),
    ):
        alone, beside = f"{name}, alone", f"{name}, beside {count} slow"
        cases.append(Case(alone, receiver, fast(options, beside=0)))
        cases.append(Case(beside, receiver, fast(options, beside=count)))
        bound = None if receiver.peer else 0.8
        goals.append(Goal("mib_s", beside, alone, at_least=bound))
    columns = (
        Column("mib_s", "MiB/s of the fast one", 0),
        Column("cpu_s", "server CPU-s"),
        Column("peak_mib", "peak MiB", 0),
    )
    title = f"{options.size // MIB} MiB {TIMES} times beside {count} slow clients"
    return Plan(title, tuple(cases), columns, tuple(goals), options.size, columns[0])


def silence(options: Options) -> Plan:
    """How long silent clients keep their threads."""
    threads = max(256, options.clients + 8)
    limit = options.seconds
    receivers = (
        ("gthread", ours("gthread", threads=threads, READ_TIMEOUT=limit)),
        ("gevent", ours("gevent", worker_class="gevent", READ_TIMEOUT=limit)),
    )
    cases = tuple(Case(name, one, silent(options)) for name, one in receivers)
    goals = tuple(
        Goal("freed_s", name, at_most=options.seconds + 1) for name, _ in receivers
    )
    columns = (
        Column("freed_s", "last one free after s"),
        Column("first_freed_s", "first one after s"),
    )
    title = f"{options.clients} silent clients, time-out {options.seconds} s"
    return Plan(title, cases, columns, goals, MIB, columns[0])
