"""Runs the fast tests with the oldest and newest allowed packages, on each Python.

``nox`` runs all of it; ``nox -s min -- tests/engine`` passes arguments on to pytest.
"""

from __future__ import annotations

import nox

#: The lowest versions that ``pyproject.toml`` allows, and the oldest Python with them.
OLDEST = {
    "blinker": "1.8.0",
    "click": "8.2.0",
    "flask": "3.0.0",
    "flask-sqlalchemy": "3.1.1",
    "marshmallow": "3.20.0",
    "multipart": "2.0.0",
    "sqlalchemy": "2.0.30",
    "werkzeug": "3.1.7",
}
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
FAST = ("-m", "not slow and not oracle and not browser", "-n", "2", "-q")

nox.options.error_on_missing_interpreters = False
nox.options.sessions = ("min", "newest", *(f"pythons-{name}" for name in PYTHONS))


def fast_tests(session: nox.Session, *versions: str) -> None:
    """Install the package with these versions and run the fast tests."""
    session.install(*versions, "--editable", ".[test]")
    session.run("python", "-m", "pytest", *FAST, *session.posargs)


@nox.session(python=PYTHONS[0], name="min")
def oldest(session: nox.Session) -> None:
    """The lowest allowed version of each dependency."""
    fast_tests(session, *(f"{name}=={version}" for name, version in OLDEST.items()))


@nox.session
def newest(session: nox.Session) -> None:
    """The newest version of each dependency."""
    fast_tests(session, "--upgrade", "--upgrade-strategy", "eager")


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """What pip chooses, on each Python that is there."""
    fast_tests(session)
