"""Where sealed objects lie and how they travel: the port, THE table of stores.  Contract suite: ``contract``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hdrs_hpc.core.errors import ConflictError, InternalError, NotFoundError, SiteError

if TYPE_CHECKING:
    from hdrs_hpc.sealing.objects.sftp import SftpPool

type Bytes = bytes | bytearray | memoryview

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}", re.ASCII)


class ObjectMissingError(NotFoundError):
    code = "object-missing"
    meaning = "The storage has no object of that name."
    remedy = "If the copy was not destroyed on purpose, somebody removed part of it: stage it anew."


class ObjectExistsError(ConflictError):
    code = "object-exists"
    meaning = "An object is written once; there is one of that name already."
    remedy = "Write under a new name; what is there was not touched."


class ScratchFullError(SiteError):
    code = "scratch-full"
    meaning = "The storage takes no more: the disk is full or the quota used up."
    remedy = "Free space or ask the site for quota; the work goes on from where it stopped."


class ObjectTransferError(SiteError):
    code = "object-transfer"
    meaning = "The storage could not be reached, or broke off."
    remedy = "Nothing half-written has a name; the same call again is safe."


class ObjectReads(Protocol):
    """The half of :class:`ObjectStore` that reads."""

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes ``[start, start + length)``, fewer where the object ends.  Raises ObjectMissingError."""

    def get_into(self, name: str, start: int, view: memoryview) -> int:
        """Fill ``view`` (bytes, writable) from ``start`` on; gives the number of bytes, fewer only where the
        object ends.

        For readers that use the same memory again: fresh memory costs more than reading from the page cache.
        Raises ObjectMissingError.
        """

    def size(self, name: str) -> int:
        """Its length in bytes.  Raises ObjectMissingError."""


class ObjectStore(ObjectReads, Protocol):
    """Sealed objects by name, written once, in one flat place.

    Names match ``[a-z0-9][a-z0-9-]{0,127}``.  All methods may be called from several threads.  Whatever the
    storage does wrong is a SiteError that may be retried.
    """

    def put(self, name: str, data: Bytes | Iterable[Bytes]) -> None:
        """Store a new object.

        It appears under its name only when it is whole and on the medium; after a crash at any moment there
        is the whole object or none.  Pieces of an iterable are used before the next one is asked for.  Raises
        ObjectExistsError (what is there stays), ScratchFullError, or what the iterable raised.
        """

    def list(self) -> Iterator[str]:
        """Names of all whole objects, in no order."""

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Name and length of all whole objects, in one pass."""

    def delete(self, name: str) -> None:
        """Remove an object; no error when there is none."""

    def sweep(self) -> int:
        """Remove what interrupted puts left and say how many; only while no put is under way."""


@dataclass(frozen=True)
class Reach:
    """How a folder of a project's scratch is reached: what a cluster, or a node, can give a store."""

    path: str
    sftp: SftpPool | None = None
    """Sessions with the site's login or transfer node; None where no SSH is needed."""


@dataclass(frozen=True)
class StoreKind:
    open: Callable[[Reach], ObjectStore]
    needs_ssh: bool = False


def _folder(reach: Reach) -> ObjectStore:
    from hdrs_hpc.sealing.objects.directory import DirectoryStore

    return DirectoryStore(Path(reach.path))


def _sftp(reach: Reach) -> ObjectStore:
    from hdrs_hpc.sealing.objects.sftp import SftpStore

    if reach.sftp is None:
        raise InternalError("the settings were checked: sftp comes with [ssh]")
    return SftpStore(reach.sftp, reach.path)


OBJECT_STORES: dict[str, StoreKind] = {
    "folder": StoreKind(_folder),
    "sftp": StoreKind(_sftp, needs_ssh=True),
}
"""By the name in a cluster's settings (``object-store``); nothing else chooses a store on a site."""


def usual_store(with_ssh: bool) -> str:
    """The store of a cluster whose settings name none."""
    return "sftp" if with_ssh else "folder"


def on_node(path: Path) -> ObjectStore:
    """The store by which a node reads and writes objects: scratch is mounted there, whatever the broker uses."""
    return OBJECT_STORES["folder"].open(Reach(str(path)))


def check_name(name: str) -> None:
    """Names are ours, never a user's; a wrong one is our bug and must not reach a file system."""
    if not _NAME.fullmatch(name):
        raise InternalError("not the name of a sealed object")


def pieces(data: Bytes | Iterable[Bytes]) -> Iterable[Bytes]:
    """``put``'s data as an iterable."""
    return [data] if isinstance(data, bytes | bytearray | memoryview) else data
