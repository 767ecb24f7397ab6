"""A new kind of signed document is one model, one row, and the module that files it; all else follows from these.

The package is copied, a kind ``ethics-note`` is added to the copy, and each room is asked in a process that imports
the copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODEL = '''
"""A note of an ethics committee on a project."""

from typing import ClassVar

from hdrs_hpc.forms.document import Document
from hdrs_hpc.forms.words import Name, Prose


class EthicsNote(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/ethics-note/1"

    project: Name
    text: Prose
'''
IMPORT = "    from hdrs_hpc.documents.models.dataset import DatasetRegistration\n"
BEFORE = "LOGIN: DocumentKind[Login]"
ROW = (
    'ETHICS_NOTE: DocumentKind[EthicsNote] = DocumentKind("ethics-note", "custodian", "ethics_note:EthicsNote", '
    'single_signer=True, about="project")\n'
)
FILING = """
from hdrs_hpc.broker.filing.case import Became, Case
from hdrs_hpc.documents import kinds, trust


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.ETHICS_NOTE, case.root)
    case.file("ethics-note", found.people)
    case.log("ethics-note-accepted", found.people[0], {"project": found.document.project}, {})
    return Became(found.document.project)
"""
BEGIN = """
from pathlib import Path
from tests.support.party import Party
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
NOTE = {"schema": "hdrs-hpc/ethics-note/1", "project": "lung-fm", "text": "Seen in May."}
party = Party()
def refused(code, call, *arguments):
    try:
        call(*arguments)
    except HdrsError as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"not refused: {code}")
"""
ROOMS = {
    "schema": """
from hdrs_hpc.documents import schema
assert b'"const": "hdrs-hpc/ethics-note/1"' in schema.files()["ethics-note.json"]
assert schema.stale(Path("jobspecs/schema")) == ["ethics-note.json"]
""",
    "sign and verify": """
envelope = Envelope.parse(party.sign("ethics-note", NOTE, "ada").to_bytes())
found = trust.verify(envelope, kinds.ETHICS_NOTE, party.root())
assert (found.document.text, found.people) == ("Seen in May.", ("ada",))
assert envelope.payload_type == "application/vnd.hdrs-hpc.ethics-note+json"
refused("wrong-payload-type", trust.verify, envelope, kinds.CLOSURE, party.root())
refused("signer-lacks-role", trust.verify, party.sign("ethics-note", NOTE, "rae"), kinds.ETHICS_NOTE, party.root())
two = party.sign("ethics-note", NOTE, "ada", "bob")
refused("too-many-signers", trust.verify, two, kinds.ETHICS_NOTE, party.root())
""",
    "statements": """
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.contradictions import check_no_contradiction
envelope = party.sign("ethics-note", NOTE, "ada")
found = trust.verify(envelope, kinds.ETHICS_NOTE, party.root())
def entry(project):
    return Entry(
        seq=7, at="2027-01-16T09:00:00Z", event="ethics-note-accepted", actor="ada",
        subject={"project": project, "document": envelope.digest}, detail={"envelope": envelope.digest},
    )
assert Entry.from_bytes(entry("lung-fm").to_bytes()).row.document_kind == "ethics-note"
check_no_contradiction(entry("lung-fm"), found)
refused("audit-document-mismatch", check_no_contradiction, entry("other"), found)
""",
    "filing": """
from tests.support.office import Office
from hdrs_hpc.broker.filing import accept
office = Office(Path("office"))
receipt = office.accept("ethics-note", NOTE, "ada")
assert (receipt.kind, receipt.project, receipt.known) == ("ethics-note", "lung-fm", False)
raw = office.party.sign("ethics-note", NOTE, "ada").to_bytes()
again = accept.accept(office.db, office.ask, raw, home=office.home)
assert (again.digest, again.project, again.known) == (receipt.digest, "lung-fm", True)
assert office.events().count("ethics-note-accepted") == 1
assert "ethics-note" in accept.NotForFilingError.remedy
""",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with one module, one row, and one module that files it more."""
    copied = tmp_path_factory.mktemp("house")
    for name in ("hdrs_hpc", "connectors", "imaging", "jobspecs/schema"):
        shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "hdrs_hpc/documents/models/ethics_note.py").write_text(MODEL, "utf-8")
    (copied / "hdrs_hpc/broker/filing/ethics_note.py").write_text(FILING, "utf-8")
    table = copied / "hdrs_hpc/documents/kinds.py"
    rows = table.read_text("utf-8")
    grown = rows.replace(
        IMPORT, f"{IMPORT}    from hdrs_hpc.documents.models.ethics_note import EthicsNote\n"
    )
    grown = grown.replace(BEFORE, f"{ROW}{BEFORE}")
    assert grown.count("EthicsNote") == 3
    table.write_text(grown, "utf-8")
    return copied


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_takes_a_kind_that_is_one_model_one_row_and_one_filing_module(
    house: Path, room: str
) -> None:
    path = os.pathsep.join((str(house), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-B", "-c", BEGIN + ROOMS[room]],
        env={**os.environ, "PYTHONPATH": path},
        cwd=house,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
