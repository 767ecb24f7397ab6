"""What an attempt may be served: only what the log says was chosen for it, for this spec and these copies.

Choosing needs raw values of the archive, which keyd does not have: it can't tell whether the choice is right.  It
holds the broker to the choice that it logged before anything was submitted, and never takes the whole copy for a
narrower selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.core.errors import NotAllowedError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.policy import selection

CHOSEN = "served-chosen"


class ServedNotChosenError(NotAllowedError):
    code = "served-not-chosen"
    meaning = "What the attempt is to be served is not what the log says was chosen by its spec's selection."
    remedy = "Nothing was given.  If it stays, the broker's database was tampered with."


def check(
    ask: m.BindNodes, spec: JobSpec, grant: Grant, logged: Sequence[Entry], whole: Mapping[str, str]
) -> None:
    """Raise ServedNotChosenError unless each input's manifest is the one choice that the log tells of for it.

    ``whole``: input → digest of its copy's own manifest.
    """
    digest = Envelope.parse(ask.spec).digest
    subject = {"project": ask.project, "job": ask.job, "attempt": ask.attempt}
    if any(entry.event != CHOSEN or dict(entry.subject) != subject for entry in logged):
        raise ServedNotChosenError("an entry is of another attempt, or no choice")
    for fact in ask.copies:
        narrowed = fact.served != whole[fact.input]
        told = [dict(entry.detail) for entry in logged if entry.detail["input"] == fact.input]
        meant = {
            "input": fact.input,
            "copy": fact.copy,
            "spec": digest,
            "manifest": fact.served,
            "narrowed": narrowed,
        }
        if told != [meant]:
            raise ServedNotChosenError(f"input {fact.input}")
        if narrowed != (fact.added is not None):
            raise ServedNotChosenError(f"input {fact.input} lies elsewhere")
        use = spec.data[fact.input]
        if not narrowed and selection.narrower(use.select, grant.data[use.dataset].select):
            raise ServedNotChosenError(f"input {fact.input} is served whole, and its selection is narrower")
