"""Runs cases in turns: round robin over all of them, once for each repetition."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.client import MIB, ClientError, Source
from benchmarks.figures import Goal, Sample, rounded
from benchmarks.install import Unavailable
from benchmarks.machine import available_memory
from benchmarks.receivers import Receiver, Server

#: The number of a turn that is not counted.
WARM_UP = -1
#: Bytes of memory that a turn has at its disposal at least, and at most.
LEAST_MEMORY, MOST_MEMORY = 64 * MIB, 2048 * MIB


@dataclass(frozen=True, slots=True)
class Turn:
    """One repetition of one case.

    :param number: of the repetition; ``WARM_UP``: small, and not counted.
    :param serial: of all turns; no two have the same.
    """

    server: Server
    source: Source
    number: int
    serial: int

    @property
    def is_warm_up(self) -> bool:
        """Only to have everything imported and connected once."""
        return self.number == WARM_UP


@dataclass(frozen=True, slots=True)
class Case:
    """A receiver and what is done with it.

    :param label: the row of the table.
    :param work: does it once and gives the figures.
    """

    label: str
    receiver: Receiver
    work: Callable[[Turn], Sample]


@dataclass(frozen=True, slots=True)
class Column:
    """A figure in the table."""

    metric: str
    title: str
    digits: int = 2


def _nobody(_directory: Path) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Plan:
    """One benchmark, ready to run.

    :param source: bytes of content that its uploads need at most.
    :param chart: the figure for the plot.
    :param beside: what runs beside all receivers and is there before they start; it
        is given a directory, and raises ``Unavailable`` where it cannot be had.
    """

    title: str
    cases: tuple[Case, ...]
    columns: tuple[Column, ...]
    goals: tuple[Goal, ...]
    source: int
    chart: Column
    beside: Callable[[Path], AbstractContextManager[None]] = _nobody


@dataclass(slots=True)
class Measured:
    """What came of it.

    :param left_out: why receivers could not be had, by label.
    :param failed: why cases gave no figure, by label.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


def select(cases: Iterable[Case], peers: Sequence[str]) -> tuple[Case, ...]:
    """Our cases and those of the wanted peers."""
    return tuple(
        case for case in cases if not case.receiver.peer or case.receiver.peer in peers
    )


def measure(plan: Plan, *, repeat: int, directory: Path) -> Measured:
    """Start all receivers, take the turns, stop them.

    :param directory: on the disk that is to be measured.
    """
    measured = Measured()
    with ExitStack() as stack:
        source = stack.enter_context(Source(plan.source))
        scratch = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="run-", dir=directory, ignore_cleanup_errors=True
                )
            )
        )
        # Readable for servers that do not work as the user who started them.
        scratch.chmod(0o755)
        try:
            stack.enter_context(plan.beside(scratch))
        except (Unavailable, ClientError, OSError) as error:
            measured.left_out.update({case.label: str(error) for case in plan.cases})
            say(f"  left out: {error}")
            return measured
        servers = _start(plan.cases, scratch, stack, measured)
        open_cases = [case for case in plan.cases if case.receiver in servers]
        serial = 0
        for number in (WARM_UP, *range(repeat)):
            for case in list(open_cases):
                turn = Turn(servers[case.receiver], source, number, serial)
                serial += 1
                if number != WARM_UP:
                    # Nobody pays for what the one before has left to the disk.
                    os.sync()
                    have_memory(min(max(2 * plan.source, LEAST_MEMORY), MOST_MEMORY))
                if not _take(case, turn, measured):
                    open_cases.remove(case)
    return measured


def have_memory(count: int) -> None:
    """Touch so much memory and give it back.

    A virtual machine may hand memory that is free for two seconds back to its host, and
    a page that comes from there costs ten times as much as another one: whose turn is
    behind a pause would pay for it.

    :param count: bytes; on a small machine half of what is free.
    """
    count = max(mmap.PAGESIZE, min(count, available_memory() // 2))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with suppress(OSError), mmap.mmap(-1, count, flags=flags) as memory:
        with suppress(AttributeError, OSError):
            # What goes back in large pieces is taken first for large files.
            memory.madvise(mmap.MADV_HUGEPAGE)
        for start in range(0, count, mmap.PAGESIZE):
            memory[start] = 1


def _start(
    cases: Iterable[Case], scratch: Path, stack: ExitStack, measured: Measured
) -> dict[Receiver, Server]:
    servers: dict[Receiver, Server] = {}
    refused: dict[Receiver, str] = {}
    for case in cases:
        receiver = case.receiver
        if receiver not in servers and receiver not in refused:
            say(f"  starting {receiver.name}")
            try:
                server = Server(receiver, scratch / str(len(servers) + len(refused)))
            except (Unavailable, ClientError, OSError) as error:
                refused[receiver] = str(error)
            else:
                stack.callback(server.stop)
                servers[receiver] = server
        if receiver in refused:
            # That ours does not start is a failure; a peer may be missing.
            kept = measured.left_out if receiver.peer else measured.failed
            kept[case.label] = refused[receiver]
            say(f"  left out: {case.label}: {refused[receiver]}")
    return servers


def _take(case: Case, turn: Turn, measured: Measured) -> bool:
    """One turn; False where it failed."""
    try:
        sample = case.work(turn)
    except Exception as error:
        # One case that fails must not take the measurements of the others along.
        words = turn.server.processes.last_words()
        what = f"{type(error).__name__}: {error}"[:500]
        measured.failed[case.label] = f"{what} ({words})"
        measured.samples.pop(case.label, None)
        say(f"  FAILED {case.label}: {measured.failed[case.label]}")
        if not isinstance(error, (ClientError, OSError)):
            traceback.print_exc()
        return False
    if turn.is_warm_up:
        turn.server.idle = turn.server.processes.memory("VmRSS")
        return True
    measured.samples.setdefault(case.label, []).append(rounded(sample))
    shown = ", ".join(f"{name} {value:.4g}" for name, value in sample.items())
    say(f"  {turn.number + 1}. {case.label}: {shown}")
    return True
