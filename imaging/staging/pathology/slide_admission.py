"""Which slides go into the copy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from imaging.deid.rules import Patient, Value
from imaging.staging.admission import Judged, Rules
from imaging.staging.headers import Header
from imaging.staging.pathology.grouping import group
from imaging.staging.pathology.headers import SlideHeader, WsmHeader
from imaging.staging.pathology.slide import Slide, slide_of_file
from imaging.staging.pathology.task import SlideTask
from imaging.staging.selectable import raw_values
from imaging.staging.selection import RAW_KEYWORDS


class Pathology:
    """The kind ``pathology``."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @property
    def keywords(self) -> frozenset[str]:
        return self._rules.profile.keywords | self._rules.selection.keywords | RAW_KEYWORDS

    def takes(self, header: Header) -> bool:
        return isinstance(header, SlideHeader | WsmHeader)

    def identity(self, number: int, header: SlideHeader | WsmHeader) -> tuple[str, ...] | None:
        if header.kind == "slide" or self._instance_code(number, header) is not None:
            return None
        return (self._rules.pseudonym(header.issuer, header.patient_id, header.study), header.sop_instance)

    def judge(self, headers: Mapping[int, SlideHeader | WsmHeader], paths: Sequence[str]) -> Judged:
        judged = Judged()
        patients: dict[str, dict[int, WsmHeader]] = defaultdict(dict)
        for number, header in headers.items():
            path = paths[number - 1]
            code = (
                self._file_code(header, path)
                if header.kind == "slide"
                else self._instance_code(number, header)
            )
            if code is not None:
                judged.refused[number] = code
            elif header.kind == "slide":
                judged.tasks.append(self._file_task(number, header, path))
            else:
                patient = self._rules.pseudonym(header.issuer, header.patient_id, header.study)
                patients[patient][number] = header
        for patient, instances in sorted(patients.items()):
            grouped = group(instances)
            judged.refused |= grouped.refused
            for place, (_, header, slide) in enumerate(grouped.slides):
                raw = tuple(raw_values(instances[number].attributes for number in slide.numbers()))
                task = self._instances_task(patient, place, header, slide, grouped.dropped[place])
                judged.tasks.append(replace(task, raw=raw))
        return judged

    def _file_code(self, header: SlideHeader, path: str) -> str | None:
        # A slide file names no patient; a list may name patient or specimen, by the file's own name.
        stem = PurePosixPath(path).stem
        if self._rules.slide_opted_out("", stem, ()):
            return "opted-out"
        if not self._rules.wanted("", stem):
            return "not-in-cohort"
        unmet = self._rules.selection.unmet(header.attributes)
        return f"not-selected:{unmet}" if unmet else None

    def _file_task(self, number: int, header: SlideHeader, path: str) -> SlideTask:
        item = self._rules.key.item("slide", self._rules.issuer, path)
        kept = self._rules.profile.apply(Patient(self._rules.key, ""), header.attributes)
        raw = tuple(raw_values([header.attributes]))
        return SlideTask(item, slide_of_file(number, header), kept, self._rules.profile, raw=raw)

    def _instance_code(self, number: int, header: WsmHeader) -> str | None:
        """The rules for a DICOM instance, those of privacy before those of technique."""
        if self._rules.opt_out:
            if not header.patient_id.strip() and not header.container.strip():
                return "patient-id-missing"
            ids = [one for one in (header.patient_id, header.container) if one.strip()]
            if self._rules.slide_opted_out(header.issuer, "", ids):
                return "opted-out"
        if not self._rules.wanted(header.issuer, header.patient_id):
            return "not-in-cohort"
        if unmet := self._rules.selection.unmet(header.attributes):
            return f"not-selected:{unmet}"
        # Only VOLUME images are levels (PS3.3 C.8.12.4.1.1): not LABEL, OVERVIEW or THUMBNAIL.
        if header.image_type[2:3] != ("VOLUME",):
            return "slide-side-image"
        return self._pixels_code(number, header)

    def _pixels_code(self, number: int, header: WsmHeader) -> str | None:
        """The grant's policy for levels that say they show text; what is written on glass can't be blanked, since
        nothing says where it is."""
        policy = self._rules.pixels
        if number in policy.released or (header.burned_in != "YES" and not header.label_in_image):
            return None
        rule = "slide-says-label" if header.label_in_image else "slide-says-text"
        if policy.burned_in == "hold":
            return f"held-for-person:{rule}"
        return "slide-side-image" if header.label_in_image else f"burned-in-annotation:{rule}"

    def _instances_task(
        self, patient: str, place: int, header: WsmHeader, slide: Slide, dropped: int
    ) -> SlideTask:
        key, profile = self._rules.key, self._rules.profile
        parts = (patient, header.study, header.series, header.container, header.pyramid)
        item = key.item("slide-instances", *parts, str(place))
        attributes: dict[str, Value] = {**header.attributes, "PatientID": header.patient_id or patient}
        kept = profile.apply(Patient(key, patient), attributes)
        index = {
            "patient": patient,
            "study": key.uid(header.study),
            "series": key.uid(header.series),
            "frame_of_reference": key.uid(header.frame_of_reference) if header.frame_of_reference else None,
            "study_date": kept.get("StudyDate"),
            "sex": kept.get("PatientSex"),
            "body_part": kept.get("BodyPartExamined"),
        }
        return SlideTask(item, slide, kept, profile, dropped, index)
