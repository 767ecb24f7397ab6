"""The record that outsiders can check: Merkle log, export, offline verification, inventory, certificate.

Pure apart from reading and writing an export folder; a laptop with the plain client verifies everything.
"""
