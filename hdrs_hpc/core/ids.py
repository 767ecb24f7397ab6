"""Random identifiers in Crockford base 32 (no I, L, O, U), safe in file names, shells and Slurm."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(length: int = 6) -> str:
    """A short id for people, e.g. ``7K3QW2``.  Uniqueness is the database's duty, not chance's."""
    # 32 letters divide 256 values evenly; asking the kernel for each letter by itself would cost 100 µs a name.
    return "".join(ALPHABET[value % 32] for value in secrets.token_bytes(length))


def new_secret_name(prefix: str) -> str:
    """An unguessable lower-case name of 130 random bits, e.g. a Slurm job name."""
    return f"{prefix}-{new_id(26).lower()}"


def normalise(text: str) -> str:
    """What a person typed, as an id: upper case, O→0, I and L→1, hyphens dropped."""
    return text.upper().replace("-", "").replace("O", "0").replace("I", "1").replace("L", "1")
