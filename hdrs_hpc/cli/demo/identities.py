"""Made-up patients whose every identifier is a planted canary: unique, at least 12 characters, findable.

Nobody here exists.  NHS numbers come from 999, the range that the NHS sets aside for testing; names are
syllables; dates lie in the 1880s, with fractions of a second, so that no honest date can be taken for one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

UID_ROOT = "1.2.826.0.1.3680043.10.1880"
"""Below pydicom's own root for examples; what follows is random."""

_SYLLABLES = (
    "al", "be", "cor", "da", "el", "fen", "gor", "hal", "is", "jen", "kel", "lor", "mar", "nol", "or", "pen",
    "quil", "ras", "sel", "tor", "ul", "ven", "wil", "yor", "zan", "bram", "creth", "dwyn", "frost", "glen",
    "harth", "kest", "lund", "morth", "ness", "prin", "rook", "stell", "thorn", "wick",
)  # fmt: skip
_ACCENTED = ("é", "ö", "å", "ß", "ñ", "ü")
_LETTERS = "ABCDEFGHJKMNPQRSTVWXYZ0123456789"


@dataclass
class Canaries:
    """Strings and byte windows that must be found nowhere but in the source, each with its kind."""

    strings: dict[str, str] = field(default_factory=dict)
    windows: dict[str, str] = field(default_factory=dict)

    def plant(self, text: str, kind: str) -> str:
        """Remember ``text`` and give it back; refuses what is too short to be told from chance."""
        if len(text) < 12:
            raise ValueError(f"a canary of {len(text)} characters ({kind})")
        self.strings[text] = kind
        return text

    def plant_window(self, window: bytes, kind: str) -> None:
        if len(window) != 64:
            raise ValueError(f"a window of {len(window)} bytes")
        self.windows[window.hex()] = kind


@dataclass(frozen=True)
class Patient:
    """What the hospital knows of one patient, as DICOM writes it."""

    name: str
    patient_id: str
    nhs_number: str
    other_id: str
    birth_date: str
    birth_time: str
    sex: str
    age: str
    address: str
    telephone: str
    comments: str


class Identities:
    """A deterministic source of identifiers; everything it gives is planted in ``canaries``."""

    def __init__(self, seed: int, canaries: Canaries) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._plant = canaries.plant

    def patient(self) -> Patient:
        name = self.person("patient-name")
        if self._random.random() < 0.15:
            name = self._plant(
                f"{name}^{self._word(6)}{self._random.choice(_ACCENTED)}{self._word(4)}", "name"
            )
        day, time = self._day(), self.time("birth-time")
        return Patient(
            name=name,
            patient_id=self.code("MRN", "patient-id"),
            nhs_number=self._plant(self._nhs_number(), "nhs-number"),
            other_id=self.code("PAS", "other-id"),
            birth_date=day,
            birth_time=time,
            sex=self._random.choice("FM"),
            age=f"{self._random.randint(19, 89):03d}Y",
            address=self.text(
                "address", f"{self._random.randint(1, 99)} {self._word(9)} Row, {self._word(9)}"
            ),
            telephone=self._plant(f"01632 {self._random.randrange(10**9):09d}", "telephone"),
            comments=self.text("comments", f"Lives with sister {self._word(10)}, keeper of {self._word(8)}"),
        )

    def person(self, kind: str) -> str:
        """``Family^Given``; both parts and the whole are canaries."""
        family = self._plant(self._word(12), kind)
        given = self._plant(self._word(12), kind)
        return self._plant(f"{family}^{given}", kind)

    def code(self, prefix: str, kind: str) -> str:
        """An identifier of 16 characters, the most that DICOM's SH may have."""
        tail = "".join(self._random.choice(_LETTERS) for _ in range(15 - len(prefix)))
        return self._plant(f"{prefix}-{tail}", kind)

    def text(self, kind: str, lead: str) -> str:
        """Free text of at most 64 characters."""
        return self._plant(f"{lead} {self._word(12)}"[:64], kind)

    def moment(self, kind: str) -> str:
        """DICOM's DT in the 1880s with microseconds: ``18840312091533.482913``."""
        return self._plant(f"{self._day()}{self.time(kind)}", kind)

    def time(self, kind: str) -> str:
        """DICOM's TM with microseconds, none of them round: ``091533.482913``."""
        pick = self._random.randint
        text = f"{pick(7, 19):02d}{pick(0, 59):02d}{pick(0, 59):02d}.{pick(100_001, 999_999):06d}"
        return self._plant(text, kind)

    def uid(self, parent: str, kind: str) -> str:
        """A UID below ``parent``, at most 64 characters."""
        return self._plant(f"{parent}.{self._random.randrange(10**11, 10**12)}", kind)

    def _day(self) -> str:
        pick = self._random.randint
        return f"{pick(1880, 1889)}{pick(1, 12):02d}{pick(1, 28):02d}"

    def _word(self, least: int) -> str:
        word = ""
        while len(word) < least:
            word += self._random.choice(_SYLLABLES)
        return word.capitalize()

    def _nhs_number(self) -> str:
        """Ten digits with their modulus-11 check digit, from the test range, written in groups."""
        while True:
            digits = "999" + f"{self._random.randrange(10**6):06d}"
            total = sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=True))
            check = (11 - total % 11) % 11
            if check < 10:
                return f"{digits[:3]} {digits[3:6]} {digits[6:]}{check}"
