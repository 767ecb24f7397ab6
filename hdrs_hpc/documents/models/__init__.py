"""Models of every signed document's payload: strict, immutable, all faults reported at once.

Each is imported from its own module: building all of them takes a quarter of a second, and who stages a folder needs
none.
"""
