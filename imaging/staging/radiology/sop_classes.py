"""The storage SOP classes that are staged, by what they become.  All others are refused by rule."""

from __future__ import annotations

from typing import Literal

from pydicom import uid

type Nature = Literal["tomographic", "projection", "label", "dose", "map"]
"""``tomographic``: each image has its place in the patient by the standard; ``projection``: it may have none."""

_TOMOGRAPHIC = (
    uid.CTImageStorage,
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedMRColorImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.EnhancedPETImageStorage,
    uid.LegacyConvertedEnhancedPETImageStorage,
    uid.XRay3DAngiographicImageStorage,
    uid.XRay3DCraniofacialImageStorage,
    uid.BreastTomosynthesisImageStorage,
    uid.EnhancedUSVolumeStorage,
)
_PROJECTION = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.DigitalIntraOralXRayImageStorageForPresentation,
    uid.DigitalIntraOralXRayImageStorageForProcessing,
    uid.BreastProjectionXRayImageStorageForPresentation,
    uid.BreastProjectionXRayImageStorageForProcessing,
    uid.XRayAngiographicImageStorage,
    uid.EnhancedXAImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.EnhancedXRFImageStorage,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.NuclearMedicineImageStorage,
    uid.RTImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.IntravascularOpticalCoherenceTomographyImageStorageForPresentation,
    uid.IntravascularOpticalCoherenceTomographyImageStorageForProcessing,
    uid.OphthalmicPhotography8BitImageStorage,
    uid.OphthalmicPhotography16BitImageStorage,
    uid.OphthalmicTomographyImageStorage,
    uid.WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
    uid.WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    uid.OphthalmicOpticalCoherenceTomographyEnFaceImageStorage,
    uid.OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage,
    uid.OphthalmicThicknessMapStorage,
    uid.CornealTopographyMapStorage,
    uid.VLEndoscopicImageStorage,
    uid.VLMicroscopicImageStorage,
    uid.VLSlideCoordinatesMicroscopicImageStorage,
    uid.VLPhotographicImageStorage,
    uid.DermoscopicPhotographyImageStorage,
    # Retired, and still in archives
    "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image
    "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image
    "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image
    "1.2.840.10008.5.1.4.1.1.12.3",  # X-Ray Angiographic Bi-plane Image
)
_DERIVED: dict[str, Nature] = {
    uid.SegmentationStorage: "label",
    "1.2.840.10008.5.1.4.1.1.66.7": "label",  # Label Map Segmentation
    uid.RTDoseStorage: "dose",
    uid.ParametricMapStorage: "map",
}

NATURES: dict[str, Nature] = {
    **dict.fromkeys(map(str, _TOMOGRAPHIC), "tomographic"),
    **dict.fromkeys(map(str, _PROJECTION), "projection"),
    **{str(name): nature for name, nature in _DERIVED.items()},
}
"""SOP class UID → nature."""

EACH_BY_ITSELF = frozenset({"label", "dose", "map"})
"""Natures of which each instance is an object of its own, never a slice of another."""
