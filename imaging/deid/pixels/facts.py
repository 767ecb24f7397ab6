"""What a header says that bears on burned-in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from imaging.deid.pixels.boxes import Box


class Region(NamedTuple):
    """One item of Sequence of Ultrasound Regions (PS3.3 C.8.5.5)."""

    box: Box
    spatial_format: int = 0
    """1: 2-D, 2: M-mode, 3: spectral, 4: waveform, 5: graphics (C.8.5.5.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Header facts of one instance, texts in capitals where rules compare them whole; absent is "" or empty."""

    rows: int
    columns: int
    sop_class: str = ""
    modality: str = ""
    manufacturer: str = ""
    model: str = ""
    image_type: tuple[str, ...] = ()
    conversion_type: str = ""
    burned_in: Literal["yes", "no", "absent"] = "absent"
    """Burned In Annotation (0028,0301); a value other than YES and NO counts as absent."""
    photometric: str = ""
    samples: int = 1
    placed: bool = False
    """Whether it has a place in the patient (Image Position): scanned, rather than captured from a screen."""
    regions: tuple[Region, ...] = ()

    @property
    def colour(self) -> bool:
        return self.samples > 1 or self.photometric == "PALETTE COLOR"
