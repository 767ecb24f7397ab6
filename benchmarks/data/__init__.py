"""Makers of what is measured on: real pixels at realistic size, written fast, the same bytes each time."""
