"""The table of filed kinds is whole, and each kind has its module."""

from __future__ import annotations

import inspect

from hdrs_hpc.broker.filing.kinds import FILED
from hdrs_hpc.documents.kinds import BROKER, KINDS

NEVER_FILED = {"login"}
"""It opens a session; nothing of it is kept."""


def test_every_kind_that_people_sign_is_filed_but_logins() -> None:
    assert FILED.keys() == {name for name, kind in KINDS.items() if kind.role != BROKER} - NEVER_FILED


def test_each_kind_is_filed_by_a_module_of_its_own() -> None:
    modules = [inspect.getmodule(row.file) for row in FILED.values()]
    assert len({module.__name__ for module in modules if module is not None}) == len(FILED)
