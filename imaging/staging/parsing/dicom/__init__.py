"""DICOM files, read in the parser."""
