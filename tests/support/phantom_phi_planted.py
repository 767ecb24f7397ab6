"""One identifier of an invented patient, in one of the forms that writers give it, for planting in odd places.

What may not be left afterwards is stated with each form and knows nothing of the engine.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

FAMILY, GIVEN, MIDDLE = "Quillfeather", "Zebedee", "Xan"
NUMBER, ACCESSION, PHONE, BIRTH, DAY = "QF7731942", "ACC5551297", "01632 960 741", "19510203", "20190405"
NHS = "943 476 5919"
DIGITS = ("7731942", "5551297", "01632960741", "1632960741", "9434765919", BIRTH, DAY)
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC")
WHOLE = {"US": 16, "SS": 15, "UL": 32, "SL": 31, "UV": 64, "SV": 63}
"""Bits of the integers of a VR."""


@dataclass(frozen=True)
class Planted:
    """A value for an element of ``vr``."""

    vr: str
    value: Any


def patient(charset: str = "ISO_IR 100", family: str = FAMILY) -> Dataset:
    """An object's identity: all that :func:`forms` disguises."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4.5"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.6"
    dataset.PatientName, dataset.PatientID = f"{family}^{GIVEN}^{MIDDLE}", NUMBER
    dataset.AccessionNumber, dataset.PatientBirthDate, dataset.StudyDate = ACCESSION, BIRTH, DAY
    dataset.PatientTelephoneNumbers, dataset.OtherPatientIDs = PHONE, NHS
    return dataset


def forms() -> list[Planted]:
    """Every form, for every VR that can take it."""
    names = [
        f"{FAMILY} {GIVEN}", f"{GIVEN} {FAMILY}", f"{FAMILY}-{GIVEN}", f"{GIVEN}{FAMILY}", f"{FAMILY}_{GIVEN}".upper(),
        f"{GIVEN[0]} {FAMILY}", f"{GIVEN[0]}. {MIDDLE[0]}. {FAMILY}", f"{FAMILY}, {GIVEN[0]}.", f"{GIVEN[0]}{FAMILY}",
        f"{FAMILY}{GIVEN[0]}".lower(), f"{GIVEN[0]}{MIDDLE[0]}{FAMILY[0]}", f"{FAMILY}^{GIVEN}^{MIDDLE}",
        MIDDLE + GIVEN,
    ]  # fmt: skip
    ids = [
        NUMBER, NUMBER.lower(), "7731942", "QF-773-1942", "QF 7731942", ACCESSION, "5551297", "0007731942", NHS,
        "9434765919", "943-476-5919", PHONE, "+44 1632 960741", BIRTH, "1951-02-03", "03/02/1951", "3 Feb 1951",
    ]  # fmt: skip
    texts = [
        *names,
        *ids,
        f"/data/{FAMILY}/{NUMBER}.dcm",
        f"file:///in/{FAMILY}_{GIVEN[0]}.dcm",
        f"{GIVEN}@example.org",
    ]
    around = ("{}", "CT chest {}", "{} head", "({}) axial", "seen: {} / lateral")
    found = [Planted(vr, shape.format(text)) for vr in TEXTS for text in texts for shape in around]
    found += [
        Planted("CS", text.upper()[:16])
        for text in (FAMILY, GIVEN, GIVEN + "_" + FAMILY[:6], NUMBER, "7731942")
    ]
    found += [Planted("AE", text[:16]) for text in (FAMILY, NUMBER)]
    found += [Planted("UR", f"http://host/{part}") for part in (FAMILY, NUMBER, "Quill%66eather", "7731942")]
    found += [Planted("UI", uid) for uid in ("1.2.840.7731942.1", "2.25.9434765919", f"1.2.{BIRTH}.7")]
    found += [Planted("PN", name) for name in (f"{FAMILY}^{GIVEN[0]}", f"{GIVEN}^{FAMILY}")]
    found += [
        Planted("TM", "101112.773194"),
        Planted("DT", f"{DAY}101112"),
        Planted("DA", DAY),
        Planted("DA", BIRTH),
    ]
    for digits in DIGITS:
        plain = digits.lstrip("0")
        found += [
            Planted("DS", plain),
            Planted("DS", f"{plain}.0"),
            Planted("DS", f"-{plain}"),
            Planted("FD", float(plain)),
        ]
        found += [Planted("IS", number) for number in (plain, "+" + plain, "-" + plain) if int(plain) < 2**31]
        found.append(Planted("FL", struct.unpack("<f", struct.pack("<f", float(plain)))[0]))
        found += [Planted(vr, int(plain)) for vr, bits in WHOLE.items() if int(plain) < 2**bits]
        found += [Planted(vr, int(plain).to_bytes(8, "little")) for vr in ("OB", "UN")]
    found += [
        Planted("IS", ["943", "476", "5919"]),
        Planted("US", [943, 476, 5919]),
        Planted("DS", ["943", "4765919"]),
    ]
    for text in (FAMILY, NUMBER, f"{FAMILY}^{GIVEN}"):
        for raw in (text.encode(), text.encode("utf-16-le")):
            found += [Planted(vr, raw + bytes(len(raw) % 2)) for vr in ("OB", "UN", "OW")]
    return found


def left(dataset: Dataset, raw: bytes) -> list[str]:
    """Where and in what form something of the patient is still in an object that was written as ``raw``."""
    low = raw.lower()
    found = [
        f"bytes: {word}"
        for word in (FAMILY, GIVEN, *DIGITS[:5], NUMBER, ACCESSION)
        if word.lower().encode() in low
    ]
    found += [f"UTF-16: {word}" for word in (FAMILY, GIVEN) if word.lower().encode("utf-16-le") in low]
    numbers = {int(digits) for digits in DIGITS}
    singles = {struct.unpack("<f", struct.pack("<f", float(number)))[0] for number in numbers}
    for element in dataset.iterall():
        if element.VR in (*WHOLE, "FL", "FD", "DS", "IS"):
            values = element.value if element.VM > 1 else [element.value]
            numeric = [abs(float(value)) for value in values if value not in (None, "")]
            found += [f"{element.tag} {value}" for value in numeric if value in numbers or value in singles]
            if "9434765919" in "".join(f"{value:.0f}" for value in numeric):
                found.append(f"{element.tag} in parts")
        elif element.VR in TEXTS:
            found += [f"{element.tag} {why}" for why in _in_text(str(element.value))]
        elif element.VR in ("TM", "DT", "UI"):
            if any(
                digits in str(element.value).replace(".", "")
                for digits in ("773194", *DIGITS[:5], BIRTH, DAY)
            ):
                found.append(f"{element.tag} {element.value}")
        elif element.VR in ("OB", "UN"):
            found += [
                f"{element.tag} bytes"
                for number in numbers
                if number.to_bytes(4 if number < 2**32 else 8, "little") in bytes(element.value or b"")
            ]
    return found


def _in_text(text: str) -> Iterator[str]:
    words = re.findall(r"[^\W_]+", text)
    compact = re.sub(r"[^0-9a-z]", "", text.lower())
    if words and all(word in (GIVEN[0], MIDDLE[0], FAMILY[0]) for word in words):
        yield "initials alone"
    if any(word.lower() in ("zxq", "zq", "xan") for word in words) or {GIVEN[0], FAMILY[0]} & set(words):
        yield "initials or a short name"
    if any(digits in compact for digits in DIGITS) or NUMBER.lower() in compact:
        yield "an id, however it is grouped"
    if BIRTH[:4] in compact or DAY[:4] in compact:
        yield "a year"
