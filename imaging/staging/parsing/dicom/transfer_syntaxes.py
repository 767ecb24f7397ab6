"""Which decoder reads which DICOM transfer syntax: one explicit table."""

from __future__ import annotations

from pydicom import uid

NATIVE = ""
DECODERS: dict[str, str] = {
    uid.ImplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRBigEndian: NATIVE,
    uid.DeflatedExplicitVRLittleEndian: NATIVE,
    uid.RLELossless: "pylibjpeg",
    uid.JPEGBaseline8Bit: "pylibjpeg",
    uid.JPEGExtended12Bit: "pylibjpeg",
    uid.JPEGLossless: "pylibjpeg",
    uid.JPEGLosslessSV1: "pylibjpeg",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
}
"""Set explicitly: left alone, pydicom takes the first plugin that is installed, and two sites would decode
with two libraries."""

LOSSY = frozenset(
    {
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLSNearLossless,
        uid.JPEG2000,
        uid.HTJ2K,
    }
)
"""May have lost something: decoders need not agree to the bit."""
