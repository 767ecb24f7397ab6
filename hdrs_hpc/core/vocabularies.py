"""Registered vocabularies: what a column of labels may hold without listing it.  A released one never changes."""

from __future__ import annotations

from collections.abc import Mapping

MODALITIES = (
    *(
        "CR",
        "CT",
        "DX",
        "ES",
        "GM",
        "IO",
        "IVUS",
        "MG",
        "MR",
        "NM",
        "OCT",
        "OP",
        "OPT",
        "OT",
        "PT",
        "PX",
        "RF",
    ),
    *("RTDOSE", "RTIMAGE", "SC", "SEG", "SM", "US", "XA", "XC"),
)
"""Of DICOM PS3.3, C.7.3.1.1.1, those that hold pixels."""
BODY_PARTS = (
    *("ABDOMEN", "ABDOMENPELVIS", "ADRENAL", "ANKLE", "AORTA", "ARM", "AXILLA", "BACK", "BLADDER", "BRAIN"),
    *("BREAST", "BRONCHUS", "BUTTOCK", "CALCANEUS", "CALF", "CAROTID", "CEREBELLUM", "CERVIX", "CHEEK"),
    *("CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "CIRCLEOFWILLIS", "CLAVICLE", "COCCYX", "COLON", "CORNEA"),
    *("CORONARYARTERY", "CSPINE", "CTSPINE", "DUODENUM", "EAR", "ELBOW", "ESOPHAGUS", "EXTREMITY", "EYE"),
    *("EYELID", "FACE", "FEMUR", "FINGER", "FOOT", "FOREARM", "GALLBLADDER", "HAND", "HEAD", "HEADNECK"),
    *("HEART", "HIP", "HUMERUS", "IAC", "ILEUM", "ILIUM", "JAW", "JAWREGION", "JEJUNUM", "KIDNEY", "KNEE"),
    *("LARYNX", "LEG", "LIVER", "LSPINE", "LSSPINE", "LUNG", "MANDIBLE", "MAXILLA", "MEDIASTINUM", "MOUTH"),
    *("NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "NOSE", "ORBIT", "OVARY", "PANCREAS"),
    *(
        "PAROTID",
        "PATELLA",
        "PELVIS",
        "PENIS",
        "PHARYNX",
        "PROSTATE",
        "RADIUS",
        "RADIUSULNA",
        "RECTUM",
        "RIB",
    ),
    *("SACRUM", "SCALP", "SCAPULA", "SCLERA", "SCROTUM", "SHOULDER", "SIJOINT", "SINUS", "SKULL", "SPINE"),
    *("SPLEEN", "SSPINE", "STERNUM", "STOMACH", "TESTIS", "THIGH", "THUMB", "THYMUS", "THYROID", "TIBIA"),
    *("TIBIAFIBULA", "TLSPINE", "TMJ", "TOE", "TONGUE", "TRACHEA", "TSPINE", "ULNA", "UMBILICAL", "URETER"),
    *("URETHRA", "UTERUS", "VAGINA", "VULVA", "WHOLEBODY", "WRIST", "ZYGOMA"),
)
"""Of DICOM PS3.16, annex L: defined terms of Body Part Examined, as de-identification keeps them."""

BY_NAME: Mapping[str, tuple[str, ...]] = {
    "dicom-modality@1": MODALITIES,
    "dicom-body-part@1": BODY_PARTS,
}
