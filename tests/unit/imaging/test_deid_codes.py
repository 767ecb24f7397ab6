"""Codes of public schemes, told from numbers and names that stand in their place."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.sr import _concepts_dict

from imaging.deid.codes import SCHEMES, is_public
from imaging.staging.radiology.headers import Code
from imaging.staging.radiology.segmentation import public_code


@pytest.mark.parametrize("scheme", ["SCT", "DCM", "UCUM", "FMA", "NCIt", "RADLEX", "UMLS", "NEU", "LN"])
def test_nearly_all_codes_of_the_standard_pass(scheme: str) -> None:
    concepts: dict[str, Any] = _concepts_dict.concepts
    codes = {code for meanings in concepts[scheme].values() for code in meanings}
    refused = {code for code in codes if not is_public(scheme, code)}
    # The dictionary has misprints: LOINC has codes of NCIt in it, RadLex one of its playbook.
    assert len(refused) <= max(1, len(codes) // 100), refused


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("SCT", "9434765919"),  # an NHS number
        ("SCT", "19500412"),  # a birthday
        ("SCT", "818981002"),  # a wrong check digit
        ("SCT", "0818981001"),
        ("SCT", "SMITH-JOHN-1950"),
        ("SRT", "T-SMITH"),
        ("SRT", "T-DEAD"),
        ("SRT", "9434765919"),
        ("DCM", "9434765919"),
        ("DCM", "SMITH"),
        ("FMA", "9434765919"),
        ("NCIt", "SMITH"),
        ("RADLEX", "SMITH"),
        ("UMLS", "9434765919"),
        ("UCUM", "SMITH-JOHN"),
        ("UCUM", "mm{SMITH}"),
        ("UCUM", "9434765919"),
        ("UCUM", ""),
        ("99HERE", "818981001"),
        ("", "818981001"),
    ],
)
def test_names_numbers_and_codes_of_private_schemes_do_not(scheme: str, value: str) -> None:
    assert not is_public(scheme, value)
    assert public_code(Code(scheme=scheme, value=value)) is None


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("SCT", "10200004"), ("SCT", "32570491000036106"), ("SRT", "T-D4000"), ("SRT", "G-A100"), ("SRT", "P1-03130"),
        ("SNM3", "T-A0100"), ("DCM", "113100"), ("DCM", "CT"), ("UCUM", "10-3.mm2/s"), ("UCUM", "g/ml{SUVbw}"),
        ("UBERON", "0002107"), ("ICDO3", "8140/3"), ("ICDO3", "C50.1"),
    ],
)  # fmt: skip
def test_codes_of_every_form_pass(scheme: str, value: str) -> None:
    assert scheme in SCHEMES
    assert is_public(scheme, value)
