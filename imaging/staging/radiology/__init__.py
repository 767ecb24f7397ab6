"""DICOM images: instances of a series → ordered volumes → sharded arrays."""
