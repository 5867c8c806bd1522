"""The engine: one object for each registration, made of the parts in this package.

It uses ports only. The dialects turn requests into calls and results into responses.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID, uuid4

from ..storage.base import Storage
from .append import Appender
from .complete import Completer
from .concatenate import Concatenator
from .create import Creator
from .declaration import Declarer
from .delivery import Deliverer
from .expiry import FOREVER, Expiry, Lifetimes, utcnow
from .interruption import ActiveReaders
from .ports import Policy, Ports, Repository
from .remove import Remover


class Engine:
    """All operations on uploads, grouped by parts.

    :param blueprint: the name in new rows.
    :param lifetimes: of unfinished uploads.
    :ivar clock: returns the present moment; tests replace it.
    """

    def __init__(
        self,
        blueprint: str,
        repository: Repository,
        storage: Storage,
        policy: Policy,
        lifetimes: Lifetimes = FOREVER,
        *,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self.clock: Callable[[], datetime] = utcnow
        self.repository = repository
        self.storage = storage
        self.ports = ports = Ports(
            repository, storage, policy, lambda: self.clock(), new_id
        )
        self.readers = ActiveReaders()
        self.expiry = Expiry(ports, lifetimes)
        self.remove = Remover(ports, self.expiry, self.readers)
        self.delivery = Deliverer(ports)
        self.complete = Completer(ports, self.remove, self.delivery)
        self.create = Creator(ports, blueprint, self.complete, self.remove)
        self.append = Appender(
            ports, self.expiry, self.complete, self.remove, self.readers
        )
        self.declare = Declarer(ports, self.expiry, self.remove, self.readers)
        self.concatenate = Concatenator(
            ports, self.append, self.complete, self.create, self.declare
        )
