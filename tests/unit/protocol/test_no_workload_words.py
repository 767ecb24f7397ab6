"""What broker and node agree on, and keyd, know no kind of workload: the node's catalogue does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hdrs_hpc
from hdrs_hpc.catalogue import workloads

ROOT = Path(hdrs_hpc.__file__).parent
WORDS = ("torchrun", "nccl", "gloo", "worker", "rank", "scheduler", "tls", "port", *workloads.KINDS)
KIND_OF_ITS_OWN = {"command"}
"""A kind whose name is a word that is needed for other things."""
FILES = [
    path for folder in ("protocol", "broker/keyd") for path in (ROOT / folder).rglob("*") if path.is_file()
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_word_of_a_workload_stands_in_the_protocol_or_in_keyd(path: Path) -> None:
    if path.suffix == ".pyc":
        return
    words = "|".join(word for word in WORDS if word not in KIND_OF_ITS_OWN)
    found = re.findall(rf"(?i)(?<![a-z])(?:{words})s?(?![a-z])", path.read_text("utf-8"))
    assert found in ([], ["RANK"] * len(found)), "only the order of isolation levels has a rank"


def test_there_is_something_to_look_at() -> None:
    assert {"handover.py", "messages.py", "batch.sh.template"} <= {path.name for path in FILES}
