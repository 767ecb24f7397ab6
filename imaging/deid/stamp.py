"""What a de-identified object says of itself, and the file meta information it gets."""

from __future__ import annotations

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from imaging.deid.annex_e import MEANINGS
from imaging.deid.object_profiles import ObjectProfile
from imaging.deid.reading_elements import BROKEN

IMPLEMENTATION_CLASS_UID = UID("2.25.284620193655214480337180526213941236125")
IMPLEMENTATION_VERSION = "HDRS_HPC_DEID_1"


def stamp(result: Dataset, source: Dataset, profile: ObjectProfile) -> None:
    """(0012,0062) to (0012,0064) and (0028,0303); codes of an earlier de-identification stay (PS3.15 E.1.1)."""
    result.PatientIdentityRemoved = "YES"
    result.DeidentificationMethod = f"hdrs-hpc {profile.name}"
    codes = {**_earlier(source), **profile.codes}
    items = []
    for code, meaning in sorted(codes.items()):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = str(code), "DCM", meaning
        items.append(item)
    result.DeidentificationMethodCodeSequence = Sequence(items)
    result.LongitudinalTemporalInformationModified = profile.temporal


def _earlier(source: Dataset) -> dict[str, str]:
    """Codes of CID 7050 that the object bears already; any other may be text."""
    try:
        items = source.get("DeidentificationMethodCodeSequence") or ()
        found = {str(item.get("CodeValue", "")) for item in items}
    except BROKEN:
        return {}
    return {code: MEANINGS[code] for code in found & set(MEANINGS)}


def transfer_syntax(source: Dataset) -> UID:
    """Of the file, or what its encoding shows where the file has no meta information."""
    meta = getattr(source, "file_meta", None)
    named = None if meta is None else meta.get("TransferSyntaxUID")
    if named:
        return UID(named)
    implicit, little = source.original_encoding
    return ImplicitVRLittleEndian if implicit or little is None else ExplicitVRLittleEndian


def file_meta(result: Dataset, source: Dataset) -> None:
    """New meta information: nothing of the old but the transfer syntax, no preamble."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = result.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = result.get("SOPInstanceUID", "")
    meta.TransferSyntaxUID = transfer_syntax(source)
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    result.file_meta = meta
