"""Which items go into the copy, and as what: rules first, then volumes.  Pure; needs the key for pseudonyms."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pydicom import uid

from imaging.deid.keyed import DeidKey
from imaging.deid.profiles import Profile
from imaging.deid.rules import Patient, Value, age_between
from imaging.staging.headers import InstanceHeader, SlideHeader
from imaging.staging.items import SlideTask, VolumeTask
from imaging.staging.parsing.dicom.transfer_syntaxes import DECODERS
from imaging.staging.radiology.assembly import Instance, Volume, assemble
from imaging.staging.selection import Selection

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


@dataclass
class Judged:
    """``refused``: item number → reason code."""

    tasks: list[VolumeTask | SlideTask] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


class Judge:
    """Holds the rules of one staging; ``profiles`` by kind (``radiology``, ``pathology``)."""

    def __init__(
        self,
        key: DeidKey,
        profiles: Mapping[str, Profile],
        selection: Selection,
        opt_out: frozenset[str],
        issuer: str,
    ) -> None:
        self._key = key
        self._profiles = profiles
        self._selection = selection
        self._opt_out = opt_out
        self._issuer = issuer

    @property
    def keywords(self) -> frozenset[str]:
        """Attributes that a parser is asked for: the profiles' and those selected by."""
        wanted = set(self._selection.values)
        if self._selection.dates is not None:
            wanted.add("StudyDate")
        for profile in self._profiles.values():
            wanted |= profile.keywords
        return frozenset(wanted)

    def judge(self, headers: Mapping[int, InstanceHeader | SlideHeader], paths: Sequence[str]) -> Judged:
        """Tasks in a stable order; memory is proportional to the headers."""
        judged = Judged()
        series: dict[tuple[str, str, str], list[Instance]] = defaultdict(list)
        for number, header in sorted(headers.items()):
            code = (
                self._slide_code(header, paths[number - 1])
                if isinstance(header, SlideHeader)
                else self._instance_code(header)
            )
            if code is not None:
                judged.refused[number] = code
            elif isinstance(header, SlideHeader):
                judged.tasks.append(self._slide_task(number, header, paths[number - 1]))
            else:
                series[(self._patient(header), header.study, header.series)].append(Instance(number, header))
        for (patient, study, series_uid), instances in sorted(series.items()):
            assembled = assemble(instances)
            judged.refused.update(assembled.refused)
            if len(assembled.volumes) > 1:
                judged.notes["split-series"] += 1
            for ordinal, volume in enumerate(assembled.volumes):
                item = self._key.item("volume", patient, study, series_uid, str(ordinal))
                judged.tasks.append(self._volume_task(item, patient, volume))
        judged.tasks.sort(key=lambda task: task.path)
        return judged

    def _instance_code(self, header: InstanceHeader) -> str | None:
        """The rules for an instance, those of privacy before those of technique."""
        if "radiology" not in self._profiles:
            return "wrong-kind"
        if header.sop_class not in SOP_CLASSES:
            return "unsupported-sop-class"
        if header.modality not in MODALITIES:
            return "unsupported-modality"
        if self._opt_out:
            if not header.patient_id.strip():
                return "patient-id-missing"
            issuers = {"", header.issuer, header.issuer or self._issuer}
            if any(self._key.opt_out_hash(one, header.patient_id) in self._opt_out for one in issuers):
                return "opted-out"
        if not self._selection.holds(header.attributes):
            return "not-selected"
        if header.burned_in:
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

    def _slide_code(self, header: SlideHeader, path: str) -> str | None:
        if "pathology" not in self._profiles:
            return "wrong-kind"
        # A slide file names no patient; the list may name the specimen, by the file's own name.
        stem = PurePosixPath(path).stem
        if any(self._key.opt_out_hash(one, stem) in self._opt_out for one in {"", self._issuer}):
            return "opted-out"
        return None if self._selection.holds(header.attributes) else "not-selected"

    def _slide_task(self, number: int, header: SlideHeader, path: str) -> SlideTask:
        item = self._key.item("slide", self._issuer, path)
        profile = self._profiles["pathology"]
        kept = profile.apply(Patient(self._key, ""), header.attributes)
        return SlideTask(item, number, header, kept, profile)

    def _patient(self, header: InstanceHeader) -> str:
        if header.patient_id.strip():
            return self._key.patient(header.issuer or self._issuer, header.patient_id)
        return self._key.patient_of_study(header.study)

    def _volume_task(self, item: str, pseudonym: str, volume: Volume) -> VolumeTask:
        profile = self._profiles["radiology"]
        patient = Patient(self._key, pseudonym)
        kept: dict[int, dict[str, Value]] = {}
        for one in volume.all_slices():
            number = one.instance.number
            if number not in kept:
                kept[number] = profile.apply(patient, _completed(one.instance.header, pseudonym))
        constant, per_slice = _combined([kept[one.instance.number] for one in volume.all_slices()])
        return VolumeTask(item, volume, constant, per_slice, profile)


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
