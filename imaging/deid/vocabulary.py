"""Closed lists: a value outside them is text, and text is not kept."""

from __future__ import annotations

OTHER_MANUFACTURER = "OTHER"

MANUFACTURERS: tuple[tuple[str, str], ...] = (
    ("SIEMENS", "SIEMENS"),
    ("GE MEDICAL", "GE"),
    ("GE HEALTHCARE", "GE"),
    ("GENERAL ELECTRIC", "GE"),
    ("PHILIPS", "PHILIPS"),
    ("CANON", "CANON"),
    ("TOSHIBA", "TOSHIBA"),
    ("HITACHI", "HITACHI"),
    ("FUJI", "FUJIFILM"),
    ("UNITED IMAGING", "UNITED IMAGING"),
    ("UIH", "UNITED IMAGING"),
    ("NEUSOFT", "NEUSOFT"),
    ("MINDRAY", "MINDRAY"),
    ("SAMSUNG", "SAMSUNG"),
    ("SHIMADZU", "SHIMADZU"),
    ("HOLOGIC", "HOLOGIC"),
    ("CARESTREAM", "CARESTREAM"),
    ("AGFA", "AGFA"),
    ("KONICA", "KONICA MINOLTA"),
    ("PICKER", "PICKER"),
    ("MARCONI", "MARCONI"),
    ("ELSCINT", "ELSCINT"),
    ("BRUKER", "BRUKER"),
    ("ESAOTE", "ESAOTE"),
    ("ELEKTA", "ELEKTA"),
    ("VARIAN", "VARIAN"),
    ("ACCURAY", "ACCURAY"),
    ("LEICA", "LEICA"),
    ("APERIO", "APERIO"),
    ("HAMAMATSU", "HAMAMATSU"),
    ("3DHISTECH", "3DHISTECH"),
    ("VENTANA", "ROCHE"),
    ("ROCHE", "ROCHE"),
)
"""Words by which a maker is known, and the name kept; the first match counts."""

MODALITIES = frozenset(
    {
        "ANN", "AR", "AS", "ASMT", "AU", "BDUS", "BI", "BMD", "CD", "CF", "CFM", "CP", "CR", "CS", "CT",
        "CTPROTOCOL", "DD", "DF", "DG", "DM", "DMS", "DOC", "DS", "DX", "EC", "ECG", "EEG", "EMG", "EOG",
        "EPS", "ES", "FA", "FID", "FS", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN",
        "LP", "LS", "M3D", "MA", "MG", "MR", "MS", "NM", "OAM", "OCT", "OP", "OPM", "OPR", "OPT", "OPTBSV",
        "OPTENF", "OPV", "OSS", "OT", "PA", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG",
        "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SC",
        "SEG", "SM", "SMR", "SR", "SRF", "ST", "STAIN", "TEXTUREMAP", "TG", "US", "VA", "VF", "XA",
        "XAPROTOCOL", "XC",
    }
)  # fmt: skip
"""Defined terms of Modality (0008,0060), retired ones too (PS3.3 C.7.3.1.1.1)."""
