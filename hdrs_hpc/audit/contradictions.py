"""That an entry of the log does not contradict the signed document that it accepts.

The log is the broker's word, the documents are the people's; where an entry repeats a document, they must agree.
"""

from __future__ import annotations

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.trust import Verified
from hdrs_hpc.forms.document import Document


class EntryContradictsError(BadDocumentError):
    code = "audit-document-mismatch"
    meaning = "An entry of the log and the signed document that it names tell different things."
    remedy = (
        "Stop trusting this broker until its operator explains the entry named; keep this copy of the log."
    )


def check_no_contradiction(entry: Entry, verified: Verified[Document]) -> None:
    """Raise :class:`EntryContradictsError` where ``entry`` contradicts the document that it accepts."""
    said = {**entry.subject, **entry.detail}
    for key, value in verified.document.in_log(verified.people).items():
        if key in said and said[key] != value:
            raise EntryContradictsError(
                f"{key} is not what the document says", where=f"entry {entry.seq}, {entry.event}"
            )
