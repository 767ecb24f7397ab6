"""How far a node must shut a job in, by the documents: the same for the broker and for keyd."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hdrs_hpc.policy.granted import isolation_needed


def required(level: str, *, own_code: str = "none", bundle: object = None, real: tuple[str, ...] = ()) -> str:
    spec: Any = SimpleNamespace(
        workload=SimpleNamespace(bundle=bundle), data={"ct": SimpleNamespace(dataset="chest-ct")}
    )
    grant: Any = SimpleNamespace(
        limits=SimpleNamespace(isolation=level), workloads=SimpleNamespace(own_code=own_code)
    )
    facts: Any = SimpleNamespace(grant=grant, real=real)
    return isolation_needed(spec, facts)


@pytest.mark.parametrize(
    ("needed", "asked"),
    [
        ("cooperative", {}),
        ("sandboxed", {"real": ("chest-ct",)}),
        ("cooperative", {"real": ("another",)}),
        ("sandboxed", {"own_code": "project", "bundle": object()}),
        ("cooperative", {"own_code": "reviewed", "bundle": object()}),
    ],
)
def test_real_data_and_unread_code_are_never_below_a_sandbox(needed: str, asked: dict[str, Any]) -> None:
    assert required("cooperative", **asked) == needed
    assert required("fenced", **asked) == "fenced"
