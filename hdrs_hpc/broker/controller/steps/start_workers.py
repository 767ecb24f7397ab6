"""What steps do about long work in processes of their own: start it, try again, stop it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import alerts
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt
from hdrs_hpc.broker.workers import process as workers


class StartWorker(ABC):
    """Start it, unless it runs.  A subclass is one kind of work."""

    MODULE: ClassVar[str]
    OF: ClassVar[str]
    """What it is named by: ``attempt`` or ``copy``."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def folder(self, home: BrokerHome) -> Path: ...

    def act(self, broker: OpenBroker) -> None:
        workers.start(
            self.folder(broker.home),
            f"hdrs_hpc.broker.workers.{self.MODULE}",
            *("--home", str(broker.home.root), f"--{self.OF}", self.name),
        )


@dataclass(frozen=True)
class StartStager(StartWorker):
    MODULE: ClassVar[str] = "stager"
    OF: ClassVar[str] = "copy"
    copy: Copy

    @property
    def name(self) -> str:
        return self.copy.id

    def folder(self, home: BrokerHome) -> Path:
        return home.staging_dir(self.name)


@dataclass(frozen=True)
class _StartForAttempt(StartWorker):
    OF: ClassVar[str] = "attempt"
    attempt: Attempt

    @property
    def name(self) -> str:
        return self.attempt.name


class StartChooser(_StartForAttempt):
    """It reads the raw values of a copy and seals a narrower manifest."""

    MODULE: ClassVar[str] = "chooser"

    def folder(self, home: BrokerHome) -> Path:
        return home.served_dir(self.name)


class StartCollector(_StartForAttempt):
    """It opens what an attempt sealed, and has it checked."""

    MODULE: ClassVar[str] = "collector"

    def folder(self, home: BrokerHome) -> Path:
        return home.quarantine_dir(self.name)


@dataclass(frozen=True)
class Retry:
    """Trouble outside: say so, and start again; what is finished stays finished."""

    moves_on: ClassVar[bool] = False

    about: str
    start: StartWorker
    error: dict[str, Any]

    def act(self, broker: OpenBroker) -> None:
        with broker.db.write() as tx:
            alerts.put(tx, self.about, self.error["code"], self.error["message"])
        self.start.act(broker)


@dataclass(frozen=True)
class StopWorker:
    """It holds keys that are to die; what it worked for ends once it is gone."""

    start: StartWorker

    def act(self, broker: OpenBroker) -> None:
        workers.stop(self.start.folder(broker.home))
