"""Pseudonyms, shifted dates and allow-listed attributes, all from one project's key.

What it can't do: one known date of a patient unmasks that patient's other dates; equal pixels link projects.
"""
