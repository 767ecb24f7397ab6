"""Splitting a cohort so that training and validation never share a patient."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow

_WHOLE = 1 << 64


def split_by_patient(
    index: pyarrow.Table, shares: Mapping[str, float], salt: str = "", *, unknown_apart: bool = False
) -> dict[str, pyarrow.Table]:
    """Rows of ``index`` by split, all rows of one patient in the same one.

    ``shares`` are the splits' names and expected shares, which add up to 1, for example
    ``{"train": 0.8, "validation": 0.1, "test": 0.1}``.  Where a patient goes depends on the pseudonym, the salt and
    the shares only: patients who join the cohort later move nobody, and copies that share pseudonyms (a project's CT
    and slides) are split alike.

    Raises ValueError where shares don't add up, and on rows without a patient, of whom nothing can be promised: with
    ``unknown_apart`` each such item is taken for a patient of its own.
    """
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError("shares are not negative and add up to 1")
    names = list(shares)
    # The last bound is open, whatever rounding did to the sum.
    bounds = [int(bound * _WHOLE) for bound in np.cumsum(list(shares.values()))[:-1]]
    chosen: list[int] = []
    for patient, item in zip(index["patient"].to_pylist(), index["item"].to_pylist(), strict=True):
        if not patient and not unknown_apart:
            raise ValueError(
                "an item names no patient; unknown_apart=True takes each for a patient of its own"
            )
        who = f"patient\0{patient}" if patient else f"item\0{item}"
        digest = hashlib.sha256(f"{salt}\0{who}".encode()).digest()
        place = int.from_bytes(digest[:8], "big")
        chosen.append(sum(place >= bound for bound in bounds))
    which = np.asarray(chosen, dtype=np.int64)
    return {name: index.filter(pyarrow.array(which == number)) for number, name in enumerate(names)}
