"""Which slides go into the copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from imaging.deid.rules import Patient
from imaging.staging.headers import Header
from imaging.staging.judging import Judged, Rules
from imaging.staging.pathology.headers import SlideHeader, WsmHeader
from imaging.staging.pathology.slide import slide_of_file
from imaging.staging.pathology.task import SlideTask


class Pathology:
    """The kind ``pathology``."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @property
    def keywords(self) -> frozenset[str]:
        return self._rules.profile.keywords | self._rules.selection.keywords

    def takes(self, header: Header) -> bool:
        return isinstance(header, SlideHeader | WsmHeader)

    def judge(self, headers: Mapping[int, SlideHeader | WsmHeader], paths: Sequence[str]) -> Judged:
        judged = Judged()
        for number, header in headers.items():
            path = paths[number - 1]
            if isinstance(header, SlideHeader):
                code = self._file_code(header, path)
                if code is not None:
                    judged.refused[number] = code
                else:
                    judged.tasks.append(self._file_task(number, header, path))
        return judged

    def _file_code(self, header: SlideHeader, path: str) -> str | None:
        # A slide file names no patient; the list may name the specimen, by the file's own name.
        if self._rules.opted_out("", PurePosixPath(path).stem):
            return "opted-out"
        return None if self._rules.selection.holds(header.attributes) else "not-selected"

    def _file_task(self, number: int, header: SlideHeader, path: str) -> SlideTask:
        item = self._rules.key.item("slide", self._rules.issuer, path)
        kept = self._rules.profile.apply(Patient(self._rules.key, ""), header.attributes)
        return SlideTask(item, slide_of_file(number, header), kept, self._rules.profile)
