"""Which DICOM instances go into the copy, and as which volumes: rules first, then volumes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydicom import uid

from imaging.deid.rules import Patient, Value, age_between
from imaging.staging.headers import Header
from imaging.staging.judging import Judged, Rules
from imaging.staging.parsing.dicom.transfer_syntaxes import DECODERS
from imaging.staging.radiology.assembly import Instance, Volume, assemble
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.task import VolumeTask

SOP_CLASSES = frozenset(
    {
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
    }
)
MODALITIES = frozenset({"CT", "MR"})
PHOTOMETRIC = frozenset({"MONOCHROME1", "MONOCHROME2"})
STORED_BITS = frozenset({8, 16, 32})


class Radiology:
    """The kind ``radiology``."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @property
    def keywords(self) -> frozenset[str]:
        return self._rules.profile.keywords | self._rules.selection.keywords

    def takes(self, header: Header) -> bool:
        return isinstance(header, InstanceHeader)

    def judge(self, headers: Mapping[int, InstanceHeader], paths: Sequence[str]) -> Judged:
        judged = Judged()
        series: dict[tuple[str, str, str], list[Instance]] = defaultdict(list)
        for number, header in headers.items():
            code = self._code(header)
            if code is not None:
                judged.refused[number] = code
                continue
            patient = self._rules.pseudonym(header.issuer, header.patient_id, header.study)
            series[(patient, header.study, header.series)].append(Instance(number, header))
        for (patient, study, series_uid), instances in sorted(series.items()):
            assembled = assemble(instances)
            judged.refused.update(assembled.refused)
            if len(assembled.volumes) > 1:
                judged.notes["split-series"] += 1
            for ordinal, volume in enumerate(assembled.volumes):
                item = self._rules.key.item("volume", patient, study, series_uid, str(ordinal))
                judged.tasks.append(self._task(item, patient, volume))
        return judged

    def _code(self, header: InstanceHeader) -> str | None:
        """The rules for an instance, those of privacy before those of technique."""
        if header.sop_class not in SOP_CLASSES:
            return "unsupported-sop-class"
        if header.modality not in MODALITIES:
            return "unsupported-modality"
        if self._rules.opt_out:
            if not header.patient_id.strip():
                return "patient-id-missing"
            if self._rules.opted_out(header.issuer, header.patient_id):
                return "opted-out"
        if not self._rules.selection.holds(header.attributes):
            return "not-selected"
        if header.burned_in == "YES" or any(
            word in kind.upper()
            for kind in header.image_type
            for word in ("SCREEN", "SECONDARY CAPTURE", "REPORT")
        ):
            return "burned-in-annotation"
        if header.transfer_syntax not in DECODERS:
            return "unsupported-transfer-syntax"
        if (
            header.samples != 1
            or header.photometric not in PHOTOMETRIC
            or header.bits_allocated not in STORED_BITS
            or header.bits_stored > header.bits_allocated
        ):
            return "unsupported-pixel-format"
        return None

    def _task(self, item: str, pseudonym: str, volume: Volume) -> VolumeTask:
        patient = Patient(self._rules.key, pseudonym)
        kept: dict[int, dict[str, Value]] = {}
        for one in volume.all_slices():
            number = one.instance.number
            if number not in kept:
                kept[number] = self._rules.profile.apply(patient, _completed(one.instance.header, pseudonym))
        constant, per_slice = _combined([kept[one.instance.number] for one in volume.all_slices()])
        return VolumeTask(item, volume, constant, per_slice, self._rules.profile)


def _completed(header: InstanceHeader, pseudonym: str) -> dict[str, Value]:
    """Raw attributes with what they imply: ids under their keywords, an age from two dates."""
    attributes: dict[str, Value] = dict(header.attributes)
    attributes["PatientID"] = header.patient_id or pseudonym  # any value: the rule replaces it
    if "PatientAge" not in attributes:
        birth, study = attributes.get("PatientBirthDate"), attributes.get("StudyDate")
        years = age_between(birth, study) if isinstance(birth, str) and isinstance(study, str) else None
        if years is not None:
            attributes["PatientAge"] = years
    return attributes


def _combined(
    slices: Sequence[Mapping[str, Value]],
) -> tuple[dict[str, Value], dict[str, list[Value]]]:
    """Attributes equal on all slices, and those numbers that vary, as lists in slice order.

    What varies and is no number, or is missing on some slice, is left out.
    """
    constant: dict[str, Value] = {}
    varying: dict[str, list[Value]] = {}
    for keyword in sorted(set.intersection(*(set(one) for one in slices))):
        values = [one[keyword] for one in slices]
        if all(value == values[0] for value in values):
            constant[keyword] = values[0]
        elif all(isinstance(value, int | float) for value in values):
            varying[keyword] = values
    return constant, varying
