"""Faults of a bundle are told on the laptop, with file and line, before anything is signed."""

from __future__ import annotations

import pytest

from hdrs_hpc.client import bundlecheck
from hdrs_hpc.client.bundlecheck import ON_NODES, CodeFinding
from hdrs_hpc.node.runtime import contents

MAIN = b"""\
import csv

import numpy as np


def run(context):
    with context.output("cohort").open("w") as handle:
        csv.writer(handle).writerow(np.zeros(3))
"""


def told(main: bytes = MAIN, entry: str = "cohort.main:run", **more: bytes) -> list[CodeFinding]:
    files = {"cohort/__init__.py": b"", "cohort/main.py": main} | {
        f"{name}.py": raw for name, raw in more.items()
    }
    return bundlecheck.check(files, entry, ["cohort", "summary"])


def test_sound_code_is_passed_over_in_silence() -> None:
    assert told() == []


@pytest.mark.parametrize(
    ("main", "code", "line", "words"),
    [
        (MAIN + b"def broken(:\n    pass\n", "bundle-syntax", 9, "invalid syntax"),
        (MAIN.replace(b"run(", b"rum("), "entry-not-in-module", None, "did you mean rum?"),
        (MAIN.replace(b'"cohort"', b'"cohrt"'), "output-not-in-spec", 7, "did you mean cohort?"),
        (MAIN.replace(b'"cohort"', b'"elsewhere"'), "output-not-in-spec", 7, "does not declare"),
        (b"import torchvision.ops\n" + MAIN, "import-unknown", 1, "torchvision"),
        (b"from tifffile import imread\n" + MAIN, "import-unknown", 1, "tifffile"),
        (b"x = 1\x00\n" + MAIN, "bundle-syntax", None, "cannot read it"),
    ],
)
def test_a_fault_is_told_with_file_line_and_remedy(
    main: bytes, code: str, line: int | None, words: str
) -> None:
    (found,) = told(main)
    assert (found.code, found.file, found.line) == (code, "cohort/main.py", line)
    assert words in found.message and found.remedy
    assert found.warning == (code == "import-unknown")


@pytest.mark.parametrize(
    "main",
    [
        MAIN.replace(b"def run(context)", b"def other(context)") + b"run = other\n",
        MAIN.replace(b"def run(context)", b"def other(context)") + b"from cohort.more import run\n",
        MAIN.replace(b"def run(context)", b"def other(context)") + b"from cohort.more import *\n",
        b"try:\n    from cohort.fast import run\nexcept ImportError:\n"
        + MAIN.replace(b"\n", b"\n    ")
        + b"\n",
    ],
    ids=["assigned", "imported", "star", "try"],
)
def test_an_entry_may_be_bound_in_any_way_python_has(main: bytes) -> None:
    assert not [item for item in told(main) if item.code == "entry-not-in-module"]


def test_what_code_tries_to_import_and_its_own_modules_are_its_own_business() -> None:
    tried = b"try:\n    import torch\nexcept ImportError:\n    torch = None\nimport helper\nfrom . import x\n"
    assert told(tried + MAIN, helper=b"from hdrs_hpc.workloads import context\n") == []


def test_a_second_file_that_does_not_parse_is_told_too() -> None:
    found = told(MAIN + b"(", other=b"def f(:")
    assert [(item.file, item.code) for item in found] == [
        ("cohort/main.py", "bundle-syntax"),
        ("other.py", "bundle-syntax"),
    ]


def test_the_imports_that_nodes_satisfy_are_those_of_the_runtime() -> None:
    below = [
        entry.path.relative_to(contents.SITE).parts
        for entry in contents.of_a_flavour()
        if contents.SITE in entry.path.parents
    ]
    packages = {parts[0] for parts in below if len(parts) > 1 and "." not in parts[0]}
    modules = {parts[0].partition(".")[0] for parts in below if len(parts) == 1}
    ours = {"_yaml", "hdrs"}
    assert (packages | modules) - ours == ON_NODES
