"""Programs of a bundle in the real runtime, in the sandbox and without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hdrs_hpc.catalogue.workloads import command
from hdrs_hpc.protocol.handover import OutputOrder
from hdrs_hpc.protocol.outputs import BundleLine

from .conftest import CANARY, Site

JOBSPECS = Path(__file__).parents[3] / "jobspecs"
TABLE = (OutputOrder("cohort", "table", "tables/cohort.csv", 1 << 20),)


def test_the_program_of_the_examples_counts_what_is_staged(site: Site) -> None:
    """A script by its own first line: the flavour's python3 is found, with what reads staged copies."""
    files = {"bin/count-series": (JOBSPECS / "command/bin/count-series").read_text()}
    run = ["bin/count-series", "--by", "body_part", "--out", "{outputs.cohort}"]
    closing = site.run(files, own={"kind": "command", "run": run}, outputs=TABLE)
    assert closing.workload.ending == "exited", closing
    expected = "body_part,n_patients,n_series\r\nCHEST,2,2\r\nHEAD,2,2\r\n"
    assert site.output("cohort").decode() == expected


def test_the_example_of_a_new_spec_runs(site: Site) -> None:
    closing = site.run(dict(command.EXAMPLE.bundle), own={"kind": "command", **command.EXAMPLE.fields})
    assert closing.workload.ending == "exited", closing
    assert json.loads(site.output()) == {"n_patients": 4, "n_series": 4}


LOOKS_AT_FILES = """#!/bin/sh
set -e
test -f "$1/series/S0001/0/zarr.json"
cat "$1/report.json"
cp "$1/report.json" "$2"
exit 7
"""


def test_files_are_made_for_a_program_and_what_it_prints_or_exits_with_goes_nowhere(site: Site) -> None:
    own = {
        "kind": "command",
        "run": ["bin/look", "{inputs.ct}", "{outputs.result}"],
        "materialise": {"ct": "zarr"},
        "materialise-size": "64MiB",
    }
    closing = site.run({"bin/look": LOOKS_AT_FILES}, own=own)
    assert (closing.workload.ending, closing.workload.exit_code) == ("crashed", 1)
    assert site.output() == CANARY.encode()  # it stood in the copy, so the files were there
    assert CANARY not in repr(closing) and CANARY not in repr(site.progress())


def test_copies_larger_than_the_spec_says_end_the_attempt_before_the_program(site: Site) -> None:
    own = {
        "kind": "command",
        "run": ["bin/look", "{inputs.ct}", "{outputs.result}"],
        "materialise": {"ct": "zarr"},
        "materialise-size": "1KiB",
    }
    closing = site.run({"bin/look": LOOKS_AT_FILES}, own=own)
    assert closing.workload.ending == "materialised-too-large"
    assert closing.outputs[0].problem == "output-missing"


REACHES_OUT = """
import socket
socket.create_connection(("192.0.2.1", 443), timeout=20)
"""


@pytest.mark.root_parts
def test_code_that_opens_a_socket_is_told_that_there_is_no_network(make_site: Callable[..., Site]) -> None:
    own = {"kind": "command", "run": ["python3", "mine.py"]}
    closing = make_site("sandboxed").run({"mine.py": REACHES_OUT}, own=own)
    assert (closing.workload.ending, closing.workload.exception_type) == ("no-network", None)
    assert closing.workload.bundle_line == BundleLine("mine.py", 3)
