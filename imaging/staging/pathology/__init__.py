"""Whole-slide images → OME-Zarr pyramids."""
