"""The pages below docs/ and the README render, and say what the code does."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from docutils import nodes

from flask_chunked import exceptions
from flask_chunked.config.settings import SETTINGS
from flask_chunked.engine.gate import RULES
from flask_chunked.engine.states import TRANSITIONS, Event, Status
from flask_chunked.policy import UploadPolicy
from tests.dialects.wire import CODES
from tests.documents import (
    PAGES,
    README,
    ROOT,
    TUS,
    code,
    literals,
    parse,
    section,
    tables,
)
from tests.servers.test_matrix import ALL, HABITS
from tests.test_layers import INNER, PACKAGE, RANK, in_folder
from tests.test_layers import imports as imports_of

ARCHITECTURE = ROOT / "docs/architecture.rst"
PROTOCOL = ROOT / "docs/content-range.rst"
DEPLOYMENT = ROOT / "docs/deployment.rst"
#: In the order of the measurements.
NAMES = (
    "gunicorn, gthread",
    "gunicorn, sync",
    "gunicorn, gevent",
    "Werkzeug (development)",
    "nginx, buffering off",
    "cheroot",
    "gevent.pywsgi",
    "waitress",
    "nginx, buffering on",
)
RELIABILITY = ROOT / "docs/reliability.rst"

FROM = {
    "any": set(Status),
    "unfinished": {Status.UPLOADING, Status.COMPLETING},
}
EVENTS = {
    "begin completion": Event.BEGIN_COMPLETION,
    "refuse": Event.REFUSE_COMPLETION,
    "complete": Event.COMPLETE,
    "finish": Event.FINISH,
    "append": Event.APPEND,
    "take over": Event.TAKE_OVER,
    "terminate": Event.TERMINATE,
    "expire": Event.EXPIRE,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_renders_without_a_warning(page: Path) -> None:
    assert parse(page).astext()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = {
        text
        for text in literals(parse(page))
        if re.fullmatch(r"(docs|examples|tests|\.ci)/[\w./-]+", text)
    }
    assert {name for name in named if not (ROOT / name).exists()} == set()
    linked = {
        target.partition("#")[0]
        for node in parse(page).findall(nodes.reference)
        if "://" not in (target := node.get("refuri", "#"))
    }
    assert {name for name in linked if not (page.parent / name).exists()} == set()


def test_readme_and_page_show_the_same_lines_for_browsers() -> None:
    # The page's are run, by tests/clients/test_tus_js_client.py.
    (shown,) = code(section(README, "tus"), "javascript")
    assert [shown] == code(section(TUS, "tus-js-client"), "javascript")


def test_lines_for_uppy_are_those_of_the_example() -> None:
    (shown,) = code(section(TUS, "Uppy"), "javascript")
    page = (ROOT / "examples/uppy/templates/uppy.html").read_text()
    page = page.replace("{{ url_for('uploads.collection') }}", "/uploads/")
    page = page.replace(
        "{{ url_for('uppy', name='uppy.min.mjs') }}", "/uppy/uppy.min.mjs"
    )
    imports, tus = re.findall(r"import .*|\.use\(Tus, .*\)", shown)
    assert imports in page and tus in page
    plugins = re.findall(r"\.use\((\w+)", shown)
    assert plugins == re.findall(r"\.use\((\w+)", page)


def test_layers_are_told_in_their_order() -> None:
    (table,) = tables(section(ARCHITECTURE, "The layers"))
    told = [re.findall(r"\w+", names) for names, _ in table]
    ranks = [RANK[name] for row in told for name in row]
    assert ranks == sorted(ranks)
    assert {name for row in told for name in row} == set(RANK) - {"__init__"}


def module_map() -> dict[str, list[list[str]]]:
    """Folder -> the modules in each row of the page's map."""
    (table,) = tables(section(ARCHITECTURE, "Inside the layers"))
    found: dict[str, list[list[str]]] = {}
    folder = ""
    for names, what in table:
        if what:
            found[folder].append(re.findall(r"\w+", names))
        else:
            folder = names
            found[folder] = []
    return found


@pytest.mark.parametrize("folder", module_map())
def test_map_has_every_module_of_the_folder_once(folder: str) -> None:
    told = sorted(name for row in module_map()[folder] for name in row)
    assert told == sorted(name for rank in INNER[folder] for name in rank)


def test_engine_can_be_read_from_top_to_bottom() -> None:
    *rows, next_to_last, last = module_map()["engine"]
    known = {*next_to_last, *last}
    for row in rows:
        known |= set(row)
        for name in row:
            path = PACKAGE / f"engine/{name}.py"
            used = {in_folder("engine", module) for module in imports_of(path)}
            assert used - {None} <= known, name


def test_every_hook_of_a_policy_is_told() -> None:
    (table,) = tables(section(ARCHITECTURE, "Hooks and signals"))
    told = {name for names, *_ in table[1:] for name in re.findall(r"\w+", names)}
    hooks = {
        name
        for name, member in vars(UploadPolicy).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    # One row is about all limits.
    limits = {name for name in hooks if name.startswith("get_max_")}
    assert told == hooks - limits - {"overrides"} | {"get_max_"}


def test_states_are_those_of_the_code() -> None:
    (table,) = tables(section(ARCHITECTURE, "The row"))
    statuses = {status.value: status for status in Status}
    told = {
        (status, EVENTS[event], statuses.get(re.findall(r"\w+", goal)[0]))
        for source, events, goal in table[1:]
        for status in FROM.get(source) or {Status(source)}
        for event in events.split(", ")
    }
    assert told == {
        (status, event, goal) for (status, event), goal in TRANSITIONS.items()
    }


def test_kinds_are_those_of_the_gate() -> None:
    (table,) = tables(section(ARCHITECTURE, "The gate"))
    names, *columns = zip(*table, strict=True)
    kinds = {column[0]: column for column in columns}
    assert set(kinds) == {kind.value for kind in RULES}
    for kind, rules in RULES.items():
        shown = dict(zip(names, kinds[kind.value], strict=True))
        writers = rules.writers
        takers = "every dialect" if writers is None else ", ".join(writers)
        assert shown["append bytes"].startswith(takers or "403")
        assert set(re.findall(r"\w+", shown["hooks of a file"])) == (
            {hook.value for hook in rules.hooks} or {"none"}
        )
        assert shown["download"] == ("yes" if rules.is_file else "404")
        assert (shown["signals"] == "all") is (rules.signals is None)
        assert (shown["expires"] == "always") is rules.is_material


#: Errors with the letters that the page uses for their numbers.
ERRORS: tuple[Any, ...] = (
    (exceptions.ChunkBeyondLength, "N"),
    (exceptions.TooLarge, "N"),
    (exceptions.LengthChanged, "N", "M"),
    (exceptions.ChunkSizeMismatch, "A", "B"),
    (exceptions.ChunkMissing,),
    (exceptions.OffsetMismatch, 0, 0),
    (exceptions.AlreadyComplete,),
    (exceptions.Incomplete, "N", "M"),
    (exceptions.ChecksumRequired, "md5"),
    (exceptions.ChecksumMismatch,),
    (exceptions.OwnerRequired,),
    (exceptions.UploadExpired,),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error[0].__name__)
def test_detail_of_an_error_is_told(error: Any) -> None:
    kind, *arguments = error
    assert kind(*arguments).detail in set(literals(section(PROTOCOL, "Errors")))


#: Codes of errors that only a client of tus causes; its answers are plain text.
TUS_CODES = {
    "invalid_creation",
    "length_below_offset",
    "length_undeclared",
    "not_a_partial",
    "partial_missing",
    "too_many_finals",
    "unsupported_media_type",
    "unsupported_version",
}
#: Codes of errors that clients see as internal_error.
HIDDEN_CODES = {"hook_error", "not_local"}


def test_every_code_of_an_error_is_told() -> None:
    (table,) = tables(section(PROTOCOL, "Errors"))
    assert {row[1] for row in table[1:]} == CODES - TUS_CODES - HIDDEN_CODES


def test_every_status_of_an_error_is_told() -> None:
    def all_below(kind: type[Any]) -> set[type[Any]]:
        return {kind}.union(*map(all_below, kind.__subclasses__()))

    own = {
        kind.default_status
        for kind in all_below(exceptions.ChunkedUploadError)
        if kind.__module__.startswith(exceptions.__name__)
    }
    told = set(
        map(int, re.findall(r"\b[45]\d\d\b", section(PROTOCOL, "Errors").astext()))
    )
    # Another version is asked for in tus only.
    others = {exceptions.UnsupportedVersion.default_status}
    assert own - others == told


# -- reliability -----------------------------------------------------------------------

#: Of the suite, but told in other words or not at all.
UNTOLD = {"QUOTA_ROUNDS", "QUOTA_ACTS"}


def figures() -> dict[str, tuple[str, str]]:
    """Name of each figure of the fault suite -> of a change, of a release."""
    found = {}
    for path in (ROOT / "tests").rglob("*.py"):
        for name, change, release in re.findall(
            r'(?:figure|size)\("(\w+)", ([\d_]+), ([\d_]+)\)', path.read_text()
        ):
            found[name] = (f"{int(change):,}", f"{int(release):,}")
    return found


def test_figures_of_the_fault_suite_are_told() -> None:
    told = section(RELIABILITY, "How it is tested").astext()
    missing = {
        name
        for name, (change, release) in figures().items()
        if name not in UNTOLD
        and not (
            re.search(rf"\b{change}\b", told) and re.search(rf"\b{release}\b", told)
        )
    }
    assert missing == set()


def test_limits_are_those_of_the_settings() -> None:
    (table,) = tables(section(RELIABILITY, "Limits against exhaustion"))
    settings = {setting.key: setting.default for setting in SETTINGS}
    values = {"no limit": None, "1 day": timedelta(days=1), "30": 30.0}
    for key, default, _ in table[1:]:
        assert settings.pop(key) == values[default], key
    assert not [key for key in settings if re.search("MAX_|MIN_|TIMEOUT", key)]


# -- deployment ------------------------------------------------------------------------


def test_what_servers_keep_is_what_was_measured() -> None:
    (table,) = tables(section(DEPLOYMENT, "What each server keeps"))
    told = {row[0]: row[1:] for row in table[1:]}
    names = dict(zip(HABITS, NAMES, strict=True))
    assert set(told) == set(names.values())
    for kind, habits in HABITS.items():
        for lost, said in zip(
            (habits.cut, habits.lost), told[names[kind]], strict=False
        ):
            if lost == ALL:
                assert said == "nothing"
            elif lost:
                assert said == f"all but {lost // 1024} KiB"
            else:
                assert said.endswith("all")
        later = habits.silent is None and habits.cut != ALL
        assert ("on the next request" in told[names[kind]][2]) is later


def test_lines_for_nginx_are_those_of_the_readme() -> None:
    assert code(section(DEPLOYMENT, "nginx"), "nginx") == code(parse(README), "nginx")
