"""Slide files, read in the parser."""
