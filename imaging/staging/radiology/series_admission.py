"""Which DICOM instances go into the copy, and as which items: rules first, then volumes, then what lies on them."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from imaging.deid.guard import IDENTIFYING
from imaging.deid.pixels.suspicion import HELD
from imaging.deid.rules import Patient, Value, age_between
from imaging.layout import series_path
from imaging.staging.admission import Judged, Rules
from imaging.staging.headers import Header
from imaging.staging.radiology import burned_in, faces
from imaging.staging.radiology.arrays import stored_dtype
from imaging.staging.radiology.assembly import assemble
from imaging.staging.radiology.burned_in import TextRules
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.label_task import LabelTask
from imaging.staging.radiology.metadata import EXTRA_KEYWORDS
from imaging.staging.radiology.relations import StagedVolumes
from imaging.staging.radiology.segmentation import segmentation_of
from imaging.staging.radiology.sop_classes import EACH_BY_ITSELF, NATURES
from imaging.staging.radiology.task import Links, VolumeTask
from imaging.staging.radiology.transfer_syntaxes import DECODERS
from imaging.staging.radiology.volume import Geometry, Instance, Volume
from imaging.staging.selection import RAW_KEYWORDS

MAX_PLANE_BYTES = 1 << 30
"""One image is decoded whole, in memory."""
PHOTOMETRIC = frozenset(
    {
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_420",
        "YBR_PARTIAL_422",
        "YBR_ICT",
        "YBR_RCT",
        "XYB",
    }
)

type SeriesKey = tuple[str, str, str]
"""Pseudonym, study, series: real UIDs."""


@dataclass
class _Sorted:
    """Instances by series, those that lie on others apart."""

    images: dict[SeriesKey, list[Instance]] = field(default_factory=lambda: defaultdict(list))
    derived: dict[SeriesKey, list[Instance]] = field(default_factory=lambda: defaultdict(list))


class Radiology:
    """The kind ``radiology``."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        # Instances come by the hundred thousand, patients do not.
        self._pseudonym = functools.lru_cache(4096)(rules.pseudonym)
        self._opted_out = functools.lru_cache(4096)(rules.opted_out)
        self._wanted = functools.lru_cache(4096)(rules.wanted)

    @property
    def keywords(self) -> frozenset[str]:
        return (
            self._rules.profile.keywords
            | self._rules.selection.keywords
            | RAW_KEYWORDS
            | EXTRA_KEYWORDS
            | burned_in.KEYWORDS
            | faces.KEYWORDS
        )

    def takes(self, header: Header) -> bool:
        return isinstance(header, InstanceHeader)

    def identity(self, number: int, header: InstanceHeader) -> tuple[str, ...] | None:
        # Of one series: an instance that lies in two series is an image of both.
        if self._code(header) or self._text_code(number, header):
            return None
        patient = self._pseudonym(header.issuer, header.patient_id, header.study)
        return (patient, header.study, header.series, header.sop_instance)

    def judge(self, headers: Mapping[int, InstanceHeader], paths: Sequence[str]) -> Judged:
        judged = Judged()
        found = _Sorted()
        for number, header in headers.items():
            code = self._code(header) or self._text_code(number, header)
            if code is not None:
                judged.refused[number] = code
                continue
            patient = self._pseudonym(header.issuer, header.patient_id, header.study)
            where = found.derived if NATURES[header.sop_class] in EACH_BY_ITSELF else found.images
            where[(patient, header.study, header.series)].append(Instance(number, header))
        staged = StagedVolumes()
        for key, instances in sorted(found.images.items()):
            for item, volume in self._assembled(key, instances, judged):
                staged.add(key[0], series_path(item), volume)
                judged.tasks.append(self._volume_task(item, key[0], volume, Links()))
        for key, instances in sorted(found.derived.items()):
            self._judge_derived(key, instances, staged, judged)
        return judged

    def _code(self, header: InstanceHeader) -> str | None:
        """The rules for an instance, those of privacy before those of technique."""
        if header.sop_class not in NATURES:
            return "unsupported-sop-class"
        if self._rules.opt_out:
            if not header.patient_id.strip():
                return "patient-id-missing"
            if self._opted_out(header.issuer, header.patient_id):
                return "opted-out"
        if not self._wanted(header.issuer, header.patient_id):
            return "not-in-cohort"
        if unmet := self._rules.selection.unmet(header.attributes):
            return f"not-selected:{unmet}"
        if header.transfer_syntax not in DECODERS:
            return "unsupported-transfer-syntax"
        return _pixel_fault(header)

    def _text_code(self, number: int, header: InstanceHeader) -> str | None:
        """Why an image is kept out for burned-in text, as far as its header tells."""
        policy = self._rules.pixels
        if NATURES[header.sop_class] != "label":
            verdict, action = burned_in.judged(number, header, policy)
            return burned_in.kept_out(action.code, verdict)
        # Nothing searches or paints a label afterwards, so what a header leaves open is not let through here.
        verdict, action = burned_in.judged(number, header, replace(policy, find_text=False))
        return burned_in.kept_out(HELD if action.step == "blank" else action.code, verdict)

    def _text_rules(self, volume: Volume) -> TextRules:
        headers = {one.instance.number: one.instance.header for one in volume.all_slices()}
        policy = self._rules.pixels
        verdicts = (
            (number, burned_in.judged(number, header, policy)[0]) for number, header in headers.items()
        )
        # What is clean by its header is only asked about again where the detector looks.
        asked = (
            (number, verdict)
            for number, verdict in verdicts
            if verdict is not None and (policy.find_text or verdict.finding != "clean")
        )
        return TextRules(policy, tuple(sorted(asked)), (volume.header.rows, volume.header.columns))

    def _assembled(
        self, key: SeriesKey, instances: list[Instance], judged: Judged
    ) -> list[tuple[str, Volume]]:
        patient, study, series = key
        made = assemble(instances)
        judged.refused.update(made.refused)
        judged.notes.update(made.notes)
        return [
            (self._rules.key.item("volume", patient, study, series, str(ordinal)), volume)
            for ordinal, volume in enumerate(made.volumes)
        ]

    def _judge_derived(
        self, key: SeriesKey, instances: list[Instance], staged: StagedVolumes, judged: Judged
    ) -> None:
        """Segmentations, doses and maps, each tied to the images it was made of."""
        labels = [one for one in instances if NATURES[one.header.sop_class] == "label"]
        others = [one for one in instances if NATURES[one.header.sop_class] != "label"]
        if others:
            for item, volume in self._assembled(key, others, judged):
                links, noted = _links(key[0], volume.header, volume.geometry, staged)
                judged.tasks.append(self._volume_task(item, key[0], volume, links, noted))
        taken: set[str] = set()
        for one in sorted(labels, key=lambda one: one.number):
            if one.header.sop_instance in taken:
                judged.refused[one.number] = "duplicate-instance"
                continue
            taken.add(one.header.sop_instance)
            self._judge_label(key, one, staged, judged)

    def _judge_label(self, key: SeriesKey, one: Instance, staged: StagedVolumes, judged: Judged) -> None:
        patient, header = key[0], one.header
        sources = staged.made_of(patient, header) or staged.in_space(patient, header)
        fitting = {
            path: geometry
            for path in sources
            if (geometry := staged.volumes[path].geometry) is not None
            and (staged.volumes[path].header.rows, staged.volumes[path].header.columns)
            == (header.rows, header.columns)
        }
        made = segmentation_of(one, list(fitting.values()))
        if isinstance(made, str):
            judged.refused[one.number] = made
            return
        links, noted = _links(patient, header, made.geometry if made.on_source else None, staged)
        item = self._rules.key.item("label", *key, header.sop_instance)
        kept = self._rules.profile.apply(Patient(self._rules.key, patient), _completed(header, patient))
        judged.tasks.append(LabelTask(item, made, kept, self._rules.profile, links, noted))

    def _kept(
        self,
        pseudonym: str,
        raw: Mapping[str, Value],
        other_raw: Mapping[str, Value],
        other_kept: Mapping[str, Value],
    ) -> dict[str, Value]:
        """What the profile keeps of ``raw``; what it shares with another instance is taken from there, since
        100,000 slices have the same identifiers to hash.  Where the two name people differently, all is judged anew."""
        if any(raw.get(keyword) != other_raw.get(keyword) for keyword in IDENTIFYING):
            return self._rules.profile.apply(Patient(self._rules.key, pseudonym), raw)
        differs = {keyword: value for keyword, value in raw.items() if other_raw.get(keyword) != value}
        same = {k: value for k, value in other_kept.items() if k in raw and k not in differs}
        return {**same, **self._rules.profile.apply(Patient(self._rules.key, pseudonym), differs, raw)}

    def _volume_task(
        self, item: str, pseudonym: str, volume: Volume, links: Links, noted: tuple[str, ...] = ()
    ) -> VolumeTask:
        kept: dict[int, dict[str, Value]] = {}
        like: tuple[Mapping[str, Value], Mapping[str, Value]] = ({}, {})
        for one in volume.all_slices():
            number = one.instance.number
            if number not in kept:
                raw = _completed(one.instance.header, pseudonym)
                kept[number] = self._kept(pseudonym, raw, *like)
                like = (raw, kept[number])
        constant, per_slice = _combined([kept[one.instance.number] for one in volume.all_slices()])
        text = self._text_rules(volume)
        deface = self._rules.pixels.deface and faces.may_show_a_face(volume)
        return VolumeTask(item, volume, constant, per_slice, self._rules.profile, links, noted, text, deface)


def _pixel_fault(header: InstanceHeader) -> str | None:
    integer = header.value_type in ("integer", "bit")
    if (integer and header.photometric not in PHOTOMETRIC) or header.bits_stored > header.bits_allocated:
        return "unsupported-pixel-format"
    if header.samples not in (1, 3):
        return "unsupported-pixel-format"
    plane = header.rows * header.columns * header.samples * np.dtype(stored_dtype(header)).itemsize
    return "too-large" if plane > MAX_PLANE_BYTES else None


def _links(
    patient: str, header: InstanceHeader, grid: Geometry | None, staged: StagedVolumes
) -> tuple[Links, tuple[str, ...]]:
    """What the object lies on.  ``grid``: its own geometry, to be compared voxel for voxel."""
    made_of = staged.made_of(patient, header)
    near = made_of or staged.in_space(patient, header)
    same = [path for path in near if grid is not None and _same_grid(staged.volumes[path], header, grid)]
    noted = () if made_of or not (header.source_series or header.source_instances) else ("source-not-staged",)
    if not near:
        return Links(), noted
    return Links((same or near)[0], bool(same), tuple(made_of)), noted


def _same_grid(source: Volume, header: InstanceHeader, grid: Geometry) -> bool:
    there = source.geometry
    return (
        there is not None
        and (source.header.rows, source.header.columns) == (header.rows, header.columns)
        and len(there.positions_mm) == len(grid.positions_mm)
        and bool(np.allclose(there.positions_mm, grid.positions_mm, atol=0.01))
        and bool(np.allclose(there.affine, grid.affine, atol=1e-3))
    )


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
