"""Which storage SOP classes hold images (PS3.4 B.5)."""

from __future__ import annotations

from pydicom import uid
from pydicom.uid import UID

DIRECTORY = str(uid.MediaStorageDirectoryStorage)
"""Of a DICOMDIR (PS3.10 8.6)."""
WHOLE_SLIDE = str(uid.VLWholeSlideMicroscopyImageStorage)
PARAMETRIC_MAP = str(uid.ParametricMapStorage)
RT_DOSE = str(uid.RTDoseStorage)
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATIONS = (str(uid.SegmentationStorage), LABEL_MAP)

_OTHER_IMAGES = (*SEGMENTATIONS, PARAMETRIC_MAP, RT_DOSE, str(uid.EnhancedUSVolumeStorage))
_IMAGES_WITHOUT_PIXELS = (
    str(uid.MRSpectroscopyStorage),
    str(uid.RawDataStorage),
)


def is_image(sop_class: str) -> bool:
    """Whether objects of this class have pixels.  Classes that nobody registered are judged by the object."""
    return sop_class in _OTHER_IMAGES or "Image Storage" in UID(sop_class).name


def is_other_object(sop_class: str) -> bool:
    """Whether objects of this class are known to have no pixels: reports, plans, structure sets, waveforms."""
    known = UID(sop_class).name != sop_class
    return sop_class in _IMAGES_WITHOUT_PIXELS or (known and not is_image(sop_class))
