"""The ports: what implements them takes the arguments that the engine passes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from flask_chunked.database.repository import SQLRepository
from flask_chunked.engine.ports import Policy, Ports, Reader, Repository
from flask_chunked.policy_hooks import PolicyHooks
from flask_chunked.request.body import BodyReader
from tests.engine.fakes import MemoryRepository, RecordingPolicy, ScriptedReader
from tests.faults.ground import Blocks

IMPLEMENTATIONS: list[tuple[Any, type[Any]]] = [
    (Repository, SQLRepository),
    (Repository, MemoryRepository),
    (Policy, PolicyHooks),
    (Policy, RecordingPolicy),
    (Reader, BodyReader),
    (Reader, ScriptedReader),
    (Reader, Blocks),
]


def members(port: Any) -> Iterator[tuple[str, Any]]:
    """The methods and properties of a protocol."""
    for name, member in vars(port).items():
        if not name.startswith("_"):
            yield name, member


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter."""
    found = inspect.signature(method).parameters.values()
    return [(one.name, one.kind, one.default) for one in found]


CASES = [
    pytest.param(kind, name, member, id=f"{kind.__name__}.{name}")
    for port, kind in IMPLEMENTATIONS
    for name, member in members(port)
    if not isinstance(member, property)
]


@pytest.mark.parametrize(("kind", "name", "method"), CASES)
def test_method_takes_the_arguments_of_its_port(
    kind: type[Any], name: str, method: Any
) -> None:
    promised = parameters(method)
    found = parameters(getattr(kind, name))
    assert [one[:2] for one in found[: len(promised)]] == [one[:2] for one in promised]
    for ours, theirs in zip(promised, found, strict=False):
        # A caller may leave out what the port lets it leave out.
        if ours[2] is not inspect.Parameter.empty:
            assert theirs[2] == ours[2]
    # It leaves out what the port does not have.
    for _, _, default in found[len(promised) :]:
        assert default is not inspect.Parameter.empty


@pytest.mark.parametrize("port", [Repository, Policy, Reader])
def test_every_member_of_a_port_says_what_it_does(port: Any) -> None:
    assert all(member.__doc__ for _, member in members(port))


def test_fake_repository_has_no_method_that_the_port_lacks() -> None:
    promised = {name for name, _ in members(Repository)}
    known = {name for name in vars(MemoryRepository) if not name.startswith("_")}
    assert known <= promised


def test_ports_are_frozen() -> None:
    any_port: Any = None
    ports = Ports(any_port, any_port, any_port, any_port, any_port)
    with pytest.raises(FrozenInstanceError):
        ports.storage = any_port  # type: ignore[misc]
