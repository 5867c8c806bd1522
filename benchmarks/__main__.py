"""``python -m benchmarks [NAME ...]``: run benchmarks, show and keep what they say."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import bodies, growth, machine, objects, plot, report, slow, small
from benchmarks.client import MIB
from benchmarks.install import CACHE, HERE
from benchmarks.measure import Measured, Plan, measure, say, select
from benchmarks.options import Options
from benchmarks.receivers import PEERS

BENCHMARKS: Mapping[str, Callable[[Options], Plan]] = {
    "one-body": bodies.one_body,
    "md5": bodies.md5,
    "chunks": bodies.chunks,
    "forms": bodies.forms,
    "completion": bodies.completion,
    "small": small.small,
    "slow": slow.slow,
    "silent": slow.silence,
    "growth": growth.sizes,
    "rows": growth.rows,
    "memory": growth.memory,
    "s3": objects.objects,
}


def mebibytes(text: str) -> int:
    """Bytes of a number of MiB."""
    return round(float(text) * MIB)


def names(text: str) -> tuple[str, ...]:
    """A list with commas; ``none`` is empty."""
    found = tuple(name.strip() for name in text.split(",") if name.strip() != "none")
    unknown = [name for name in found if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown peer {unknown[0]!r}")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    defaults = Options()
    known = "; ".join(
        f"{name}: {(make.__doc__ or '').splitlines()[0]}"
        for name, make in BENCHMARKS.items()
    )
    made = argparse.ArgumentParser(prog="./run bench", epilog=known)
    made.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    made.add_argument("--list", action="store_true", help="print the names")
    made.add_argument(
        "--show", action="store_true", help="show kept results, measure nothing"
    )
    made.add_argument("--peers", type=names, default=PEERS, help=",".join(PEERS))
    made.add_argument("--repeat", type=int, default=defaults.repeat, metavar="N")
    made.add_argument("--size", type=mebibytes, default=defaults.size, metavar="MIB")
    made.add_argument(
        "--sizes",
        type=lambda text: tuple(map(mebibytes, text.split(","))),
        default=(),
        metavar="MIB,...",
        help="of completion, growth and memory",
    )
    made.add_argument("--uploads", type=int, default=defaults.uploads, metavar="N")
    made.add_argument("--threads", type=int, default=defaults.threads, metavar="N")
    made.add_argument("--rows", type=int, default=defaults.rows, metavar="N")
    made.add_argument("--clients", type=int, default=defaults.clients, metavar="N")
    made.add_argument("--seconds", type=int, default=defaults.seconds, metavar="N")
    made.add_argument(
        "--directory",
        type=Path,
        default=CACHE / "data",
        help="on the disk to measure; default: below benchmarks/.cache",
    )
    made.add_argument(
        "--results",
        type=Path,
        default=HERE / "results",
        help="where NAME.json goes; default: benchmarks/results",
    )
    made.add_argument(
        "--table", type=Path, metavar="FILE", help="append tables; .rst, .md or .txt"
    )
    made.add_argument(
        "--plot", type=Path, metavar="DIRECTORY", help="write NAME.svg there"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a case of ours failed, 2 for a wrong command line."""
    made = parser()
    args = made.parse_args(arguments)
    if args.list:
        print("\n".join(BENCHMARKS))
        return 0
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown or args.repeat < 1:
        known = ", ".join(BENCHMARKS)
        made.error(
            f"unknown name {unknown[0]!r}; there are {known}" if unknown else "N"
        )
    fields = {name: getattr(args, name) for name in asdict(Options())}
    options = replace(Options(), **fields)
    failed = False
    for name in args.names or BENCHMARKS:
        if args.show:
            show_again(name, args)
        else:
            failed |= run_one(name, options, args)
    return int(failed)


def run_one(name: str, options: Options, args: argparse.Namespace) -> bool:
    """Measure, write, print; did something fail?"""
    plan = BENCHMARKS[name](options)
    plan = replace(plan, cases=select(plan.cases, options.peers))
    say(f"{name}: {plan.title}, {options.repeat} repetitions")
    args.directory.mkdir(parents=True, exist_ok=True)
    described = machine.describe_machine(args.directory)
    measured = measure(plan, repeat=options.repeat, directory=args.directory)
    result = report.to_json(
        name,
        plan,
        measured,
        settings=asdict(options),
        machine=described,
        versions=machine.versions(),
    )
    report.write_json(args.results / f"{name}.json", result)
    show(name, plan, measured, args)
    return bool(measured.failed)


def show_again(name: str, args: argparse.Namespace) -> None:
    """Print and draw what was kept; nothing is measured."""
    path = args.results / f"{name}.json"
    if not path.is_file():
        say(f"{name}: no results yet")
        return
    settings, measured = report.read_json(path)
    show(name, BENCHMARKS[name](Options.from_json(settings)), measured, args)


def show(name: str, plan: Plan, measured: Measured, args: argparse.Namespace) -> None:
    """Tables on standard output, and where else they and the plot are wanted."""
    print(report.document(plan, measured, ""), flush=True)
    if args.table is not None:
        with args.table.open("a") as file:
            file.write(report.document(plan, measured, args.table.suffix) + "\n")
    if args.plot is not None:
        args.plot.mkdir(parents=True, exist_ok=True)
        (args.plot / f"{name}.svg").write_text(plot.svg(plan, measured))


if __name__ == "__main__":
    # Stopped from outside, it still stops its servers and removes their files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
