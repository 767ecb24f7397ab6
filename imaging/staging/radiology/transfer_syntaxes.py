"""Which decoder reads which DICOM transfer syntax: one explicit table.

Measured in ``docs/decoders.md``.  A decoder is named by what its codestreams are, not by a library: the table
of :mod:`~imaging.staging.parsing.dicom.codestreams` ties the two, so that two sites decode with one library.
"""

from __future__ import annotations

from pydicom import uid

NATIVE = "native"

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression."""
JPEG_XL_LOSSLESS = "1.2.840.10008.1.2.4.110"
JPEG_XL_RECOMPRESSED = "1.2.840.10008.1.2.4.111"
JPEG_XL = "1.2.840.10008.1.2.4.112"
GE_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
"""Private, once common: Implicit VR Little Endian whose Pixel Data alone is big-endian."""

DECODERS: dict[str, str] = {
    uid.ImplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRBigEndian: NATIVE,
    uid.DeflatedExplicitVRLittleEndian: NATIVE,
    GE_BIG_ENDIAN_PIXELS: NATIVE,
    "1.2.840.10008.1.2.1.98": "uncompressed",  # Encapsulated Uncompressed Explicit VR Little Endian
    DEFLATED_FRAMES: "deflate",
    uid.RLELossless: "rle",
    uid.JPEGBaseline8Bit: "jpeg",
    uid.JPEGExtended12Bit: "jpeg",
    "1.2.840.10008.1.2.4.53": "jpeg",  # Spectral Selection, 6 and 8 (retired): progressive
    "1.2.840.10008.1.2.4.55": "jpeg",  # Full Progression, 10 and 12 (retired)
    uid.JPEGLossless: "jpeg",
    "1.2.840.10008.1.2.4.58": "jpeg",  # Process 15 (retired): arithmetic coding
    uid.JPEGLosslessSV1: "jpeg",
    uid.JPEGLSLossless: "jpeg-ls",
    uid.JPEGLSNearLossless: "jpeg-ls",
    uid.JPEG2000Lossless: "jpeg-2000",
    uid.JPEG2000: "jpeg-2000",
    uid.JPEG2000MCLossless: "jpeg-2000",
    uid.JPEG2000MC: "jpeg-2000",
    uid.HTJ2KLossless: "htj2k",
    uid.HTJ2KLosslessRPCL: "htj2k",
    uid.HTJ2K: "jpeg-2000",
    JPEG_XL_LOSSLESS: "jpeg-xl",
    JPEG_XL_RECOMPRESSED: "jpeg-xl",
    JPEG_XL: "jpeg-xl",
}

LOSSY = frozenset(
    {
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        "1.2.840.10008.1.2.4.53",
        "1.2.840.10008.1.2.4.55",
        uid.JPEGLSNearLossless,
        uid.JPEG2000,
        uid.JPEG2000MC,
        uid.HTJ2K,
        JPEG_XL_RECOMPRESSED,
        JPEG_XL,
    }
)
"""May have lost something: decoders need not agree to the bit."""

VIDEO = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7.")
"""Beginnings of the UIDs of MPEG-2, MPEG-4, HEVC and of streams of SMPTE ST 2110 (never of files)."""


def is_video(syntax: str) -> bool:
    """Whether the pixels are a film: no frame of it can be taken by itself."""
    return syntax.startswith(VIDEO)
