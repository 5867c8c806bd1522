"""Every road to a complete upload, and the hooks that are asked on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flask_chunked import deliver_pending
from tests.apps import dispose, rows
from tests.gate.journeys import ROADS, Road
from tests.gate.recorder import (
    HOOKS,
    ORDINARY,
    PARTIAL,
    Refusal,
    Site,
    policy,
    refusal_by_hook,
)
from tests.gate.steps import finishing_post, looking
from tests.gate.traveller import Refused, Request, Traveller
from tests.gate.world import asked_one_file, clear, compare

SIZES = (0, 20, 4095, 4096, 5000)
ALL = ("authorize", *HOOKS)
#: Applications by the hooks that they have. The fewer there are, the more happens in
#: one commit, and the more ways there are to forget one.
POLICIES: dict[str, dict[str, Any]] = {
    "all": {"hooks": ALL},
    "all but authorize": {"hooks": HOOKS},
    "no checksum": {"hooks": ALL, "do_checksum_check": False},
    "validate": {"hooks": ("validate",)},
    "inspect": {"hooks": ("inspect",)},
    "verify": {"hooks": ("verify",)},
    "deliver": {"hooks": ("deliver", "on_completion")},
    "authorize": {"hooks": ("authorize",)},
    "none": {"hooks": ()},
}
#: Policies and sizes of the fast tier: every road is taken with one of each group, in
#: turn. The slow tier takes every road with every policy and size.
FAST = (
    (("all", 0), ("all", 4096)),
    (("all but authorize", 20), ("verify", 20), ("deliver", 20)),
)

#: The site for a policy and a road, cleared after its use.
Sites = Callable[[str, Road], AbstractContextManager[Site]]


def content(size: int) -> bytes:
    """Bytes that differ at every place."""
    return b"".join(b"%06d" % number for number in range(size // 6 + 1))[:size]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Apps are shared, but by roads that move the clock."""
    kept: dict[str, Site] = {}

    def make(name: str) -> Site:
        return Site(tmp_path_factory.mktemp("site"), policy(**POLICIES[name]))

    @contextmanager
    def use(name: str, road: Road) -> Iterator[Site]:
        if road.moves_clock:
            site = make(name)
        else:
            site = kept[name] = kept.get(name) or make(name)
        try:
            yield site
        finally:
            clear(site)
            if road.moves_clock:
                dispose(site.app)

    yield use
    for site in kept.values():
        dispose(site.app)


def roads_of(name: str) -> list[Road]:
    """Those that can be taken where an application has these hooks."""
    has = set(POLICIES[name]["hooks"])
    if POLICIES[name].get("do_checksum_check", True):
        has.add("checksum")
    return [road for road in ROADS if road.needs <= has]


def take(site: Site, road: Road, size: int) -> None:
    """Take the road, and compare what it leads to."""
    traveller = Traveller(content(size), site)
    road.travel(traveller)
    assert all(known.is_complete for known in traveller.uploads.values())
    compare(site, traveller)
    asked_one_file(site, traveller)


def journeys() -> list[Any]:
    found = []
    for number, road in enumerate(ROADS):
        for group in FAST:
            open_ = [(name, size) for name, size in group if road in roads_of(name)]
            for name, size in open_[number % max(1, len(open_)) :][:1]:
                test_id = f"{road.name}-{size}-{name}"
                found.append(pytest.param(name, road, size, id=test_id))
    return found


def test_the_fast_tier_takes_every_road_and_has_each_policy_often() -> None:
    taken = Counter(case.values[0] for case in journeys())
    assert {case.values[1] for case in journeys()} == set(ROADS)
    assert taken.keys() == {name for group in FAST for name, _ in group}
    assert min(taken.values()) > len(ROADS) // 5


@pytest.mark.parametrize(("name", "road", "size"), journeys())
def test_each_road_asks_what_the_table_says(
    sites: Sites, name: str, road: Road, size: int
) -> None:
    with sites(name, road) as site:
        take(site, road, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("size", SIZES)
def test_every_policy_is_asked_on_every_road(
    sites: Sites, name: str, size: int
) -> None:
    for road in roads_of(name):
        with named(road.name), sites(name, road) as site:
            take(site, road, size)


# -- refusals ------------------------------------------------------------------------


def refusals(road: Road) -> dict[tuple[str, str | None, int], object]:
    """What may be refused on this road, and the request that would be; on paper.

    :return: by hook, kind of upload, and how often it is asked before.
    """
    traveller = Traveller(content(20))
    road.travel(traveller)
    found: dict[tuple[str, str | None, int], object] = {}
    for request, notes in traveller.trace:
        asked = [(f"authorize {action}", kind) for action, kind in notes.actions]
        asked += [(n.hook, n.kind) for n in notes.hooks if n.hook != "on_completion"]
        where = (request.shape, *asked)
        for what, kind in asked:
            times = (what, kind, 0) in found and what == "validate" and kind == ORDINARY
            found.setdefault((what, kind, int(times)), where)
    return found


def refused_journeys() -> list[tuple[Road, Refusal, bool]]:
    """Of the roads on which nothing else goes wrong.

    :return: with each: is it the first one on which such a request is refused?
    """
    seen: set[object] = set()
    journeys = []
    for road in ROADS:
        for key, where in refusals(road).items() if road.is_smooth else ():
            what, kind, times = key
            refusal = Refusal(what, times=times, kind=kind)
            journeys.append((road, refusal, (key, where) not in seen))
            seen.add((key, where))
    return journeys


def name_of(value: object) -> str:
    if isinstance(value, Road):
        return value.name
    assert isinstance(value, Refusal)
    return f"{'late ' if value.times else ''}{value.what} of {value.kind}"


@pytest.mark.parametrize(
    ("road", "refusal"),
    [(road, refusal) for road, refusal, is_new in refused_journeys() if is_new],
    ids=name_of,
)
def test_a_refusal_leaves_what_the_table_says(
    sites: Sites, road: Road, refusal: Refusal
) -> None:
    with sites("all", road) as site:
        stumble(site, road, refusal, 20)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_a_refusal_leaves_what_the_table_says_on_every_road(
    sites: Sites, size: int
) -> None:
    for road, refusal, _ in refused_journeys():
        with named(f"{road.name}, {name_of(refusal)}"), sites("all", road) as site:
            stumble(site, road, refusal, size)


def stumble(site: Site, road: Road, refusal: Refusal, size: int) -> None:
    """Be refused once; then compare, and go on if anything is left to go on with."""
    traveller = Traveller(content(size), site)
    by_answer = refusal.what.startswith("authorize")
    error = None if by_answer else refusal_by_hook()
    site.blueprint.refusal = replace(refusal, error=error)
    steps = list(road.steps)
    while steps:
        try:
            steps[0](traveller)
        except Refused as refused:
            traveller.settle(refused)
            compare(site, traveller)
            if any(known.is_gone for known in traveller.uploads.values()):
                return
            if refused.what in ("verify", "authorize complete"):
                finish_anew(traveller, refused.request)
                steps.pop(0)
        else:
            steps.pop(0)
    compare(site, traveller)
    deliver_again(site, traveller)


def finish_anew(traveller: Traveller, request: Request) -> None:
    """What a client does whose last request was refused: HEAD by tus, else POST."""
    if request.is_tus:
        traveller.send(looking(traveller, request.upload))
    else:
        traveller.send(finishing_post(traveller, request.upload, "urlencoded"))


def deliver_again(site: Site, traveller: Traveller) -> None:
    """An event whose delivery failed is delivered later, and none a second time."""
    pending = [row for row in rows(site.app) if row.event_id and not row.delivered_at]
    with site.app.app_context():
        deliver_pending(older_than=timedelta(0), retry_now=True)
    files = [known for known in traveller.uploads.values() if known.kind != PARTIAL]
    asked = [note.data for note in site.blueprint.turn().hooks]
    assert len(pending) == len(asked) <= 1
    assert set(asked) <= {known.content for known in files}
    assert all(row.delivered_at for row in rows(site.app) if row.event_id)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say on which road a comparison failed."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error
