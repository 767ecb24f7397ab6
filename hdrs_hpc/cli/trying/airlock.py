"""What the airlock would say of the outputs: its own checker, in its own sandbox, by the grant's rules where known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc.broker.workers.airlock.declaring import declare
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.broker.workers.airlock.run import CheckRequest, Sent, run_checker
from hdrs_hpc.catalogue import outputs as classes
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.output_class import WrittenDeclaration
from hdrs_hpc.core import strict_yaml
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpecDraft, written
from hdrs_hpc.protocol.outputs import ClosingList, OutputProblem
from hdrs_hpc.sealing.reader import SealedCopy

CHECK_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Verdict:
    """On one declared output."""

    name: str
    output_class: str
    path: str
    refused: str | None
    """The reason code; None where it would go to the reviewers."""
    sentences: tuple[str, ...]
    rebuilt: bytes | None
    """What would be released."""
    written: bytes | None
    """What the code wrote, where it could be collected."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "class": self.output_class,
            "path": self.path,
            "refused": self.refused,
            "sentences": list(self.sentences),
            "size-bytes": None if self.rebuilt is None else len(self.rebuilt),
        }


def rules_of(grant: Grant | None) -> OutputRules:
    """The grant's, else those that a new grant is drafted with."""
    if grant is not None:
        granted = grant.outputs.model_dump(mode="json", by_alias=True, exclude_none=True)
    else:
        granted = {row.name: strict_yaml.load(row.grant_example.encode())[0] for row in classes.BUILT}
    return OutputRules.from_dict(granted)


def judge(
    spec: JobSpecDraft, closing: ClosingList, sealed: SealedCopy, rules: OutputRules, inputs: InputFacts
) -> list[Verdict]:
    """One verdict for every output that the code writes, in the spec's order."""
    declared = written(spec.outputs)
    collected = {item.name: item for item in closing.outputs}
    found = {
        name: sealed.read(item.path)
        for name, item in collected.items()
        if item.path is not None and name in declared
    }
    artefacts = tuple(
        (declare(name, declared[name], spec.workload.builtin), Sent.whole(data))
        for name, data in found.items()
    )
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(os.fdopen(os.memfd_create(name), "w+b")) for name in found]
        checked = run_checker(
            CheckRequest(artefacts, rules, os.urandom(32), inputs), files.__getitem__, CHECK_TIMEOUT_S
        )
        results = {}
        for one, file in zip(checked, files, strict=True):
            file.seek(0)
            results[one.name] = (one, file.read() if one.refused is None else None)
    verdicts = []
    for name, output in declared.items():
        if name not in results:
            item = collected.get(name)
            problem = str((item.problem if item else None) or OutputProblem.MISSING)
            verdicts.append(Verdict(name, output.class_, output.path, problem, (), None, None))
            continue
        one, rebuilt = results[name]
        told = tuple(one.report["sentences"])
        verdicts.append(Verdict(name, output.class_, output.path, one.refused, told, rebuilt, found[name]))
    return verdicts


def keep(folder: Path, verdicts: list[Verdict], declared: Mapping[str, WrittenDeclaration]) -> None:
    """Leave ``written/`` (what the code wrote) and ``released/`` (what would leave) in ``folder``."""
    for verdict in verdicts:
        for part, data in (("written", verdict.written), ("released", verdict.rebuilt)):
            if data is not None:
                path = folder / part / declared[verdict.name].path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
