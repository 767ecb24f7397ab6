"""The raw values that jobs select by, kept in the data zone under the copy's key, so that they die with the copy."""

from __future__ import annotations

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.core.durable_files import replace_file
from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.sealing.cipher import open_all, seal
from hdrs_hpc.sealing.place import context


class SelectableMissingError(ConflictError):
    code = "selectable-missing"
    meaning = "The copy was staged by a version that did not note what jobs may select by."
    remedy = "Ask for the whole of it; or have a new version of the grant signed, which makes a new copy."


def keep_selectable(home: BrokerHome, key: bytes, project: str, copy: str, raw: bytes) -> None:
    """Seal the table of :mod:`imaging.staging.selectable` into the broker's home."""
    replace_file(home.selectable_file(copy), seal(key, _place(project, copy), raw))


def read_selectable(home: BrokerHome, key: bytes, project: str, copy: str) -> bytes:
    """The table again; raises SelectableMissingError, SealBrokenError."""
    try:
        sealed = home.selectable_file(copy).read_bytes()
    except FileNotFoundError:
        raise SelectableMissingError(where=copy) from None
    return open_all(key, _place(project, copy), sealed)


def _place(project: str, copy: str) -> bytes:
    """A place that no object of a copy has, since their paths are never empty, and no journal either."""
    return context("copy", project, copy, "selectable", part="journal")
