"""Why a project may use its data at all: terms of the Data Use Ontology and articles of the UK GDPR."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Items, Part, fault

DUO_TERMS: dict[str, str] = {
    "DUO:0000004": "no restriction",
    "DUO:0000006": "health or medical or biomedical research",
    "DUO:0000007": "disease specific research",
    "DUO:0000011": "population origins or ancestry research only",
    "DUO:0000012": "research specific restrictions",
    "DUO:0000015": "no general methods research",
    "DUO:0000016": "genetic studies only",
    "DUO:0000018": "not for profit, non commercial use only",
    "DUO:0000019": "publication required",
    "DUO:0000020": "collaboration required",
    "DUO:0000021": "ethics approval required",
    "DUO:0000022": "geographical restriction",
    "DUO:0000024": "publication moratorium",
    "DUO:0000025": "time limit on use",
    "DUO:0000026": "user specific restriction",
    "DUO:0000027": "project specific restriction",
    "DUO:0000028": "institution specific restriction",
    "DUO:0000029": "return to database or resource",
    "DUO:0000042": "general research use",
    "DUO:0000043": "clinical care use",
    "DUO:0000044": "population origins or ancestry research prohibited",
    "DUO:0000045": "not for profit organisation use only",
    "DUO:0000046": "non-commercial use only",
}
"""Terms of the GA4GH Data Use Ontology with their labels, as `duo.csv` of EBISPOT/DUO lists them; no obsolete ones, and
none of the two that only group others (DUO:0000001, DUO:0000017)."""


class DataUseTermError(BadDocumentError):
    code = "data-use-term"
    meaning = "A use is not a term of the Data Use Ontology (DUO)."
    remedy = (
        "Write terms such as DUO:0000007 (disease specific research) or DUO:0000042 (general research use)."
    )


class LegalBasisError(BadDocumentError):
    code = "legal-basis"
    meaning = "A legal basis is not a lawful basis of article 6(1), or not a condition of article 9(2), of the UK GDPR."
    remedy = "Write such as `article6: 6(1)(e)` (public task) and `article9: 9(2)(j)` (research)."


_ARTICLE6 = re.compile(r"6\(1\)\([a-f]\)\Z")
_ARTICLE9 = re.compile(r"9\(2\)\([a-j]\)\Z")


def _term(text: str) -> str:
    if text not in DUO_TERMS:
        fault(DataUseTermError, "this is no term of the Data Use Ontology that is in use")
    return text


def _some_use(terms: tuple[str, ...]) -> tuple[str, ...]:
    if not terms or len(set(terms)) != len(terms):
        fault(DataUseTermError, "name at least one term, and each once")
    return terms


def _article6(text: str) -> str:
    if not _ARTICLE6.match(text):
        fault(LegalBasisError, "a lawful basis is one of 6(1)(a) to 6(1)(f)")
    return text


def _article9(text: str) -> str:
    if not _ARTICLE9.match(text):
        fault(LegalBasisError, "a condition for health data is one of 9(2)(a) to 9(2)(j)")
    return text


DataUseTerm = Annotated[
    str, AfterValidator(_term), WithJsonSchema({"type": "string", "enum": sorted(DUO_TERMS)})
]
DataUse = Annotated[Items[DataUseTerm], AfterValidator(_some_use)]


class LegalBasis(Part):
    """Under which articles of the UK GDPR the data are processed."""

    article6: Annotated[
        str,
        AfterValidator(_article6),
        WithJsonSchema({"type": "string", "pattern": r"^6\(1\)\([a-f]\)$", "examples": ["6(1)(e)"]}),
    ]
    article9: Annotated[
        str,
        AfterValidator(_article9),
        WithJsonSchema({"type": "string", "pattern": r"^9\(2\)\([a-j]\)$", "examples": ["9(2)(j)"]}),
    ]
