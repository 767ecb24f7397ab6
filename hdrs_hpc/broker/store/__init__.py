"""The broker's database: one aggregate a file; only ``transition.py`` writes a state."""
