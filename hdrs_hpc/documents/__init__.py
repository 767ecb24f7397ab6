"""Signed documents: envelope, signatures, the table of kinds, trust root and models."""
