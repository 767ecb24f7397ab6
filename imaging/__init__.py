"""Radiology and pathology as analysis-ready, de-identified, sealed zarr; usable with or without the broker."""
