"""The certificate's rows: every place that can hold patient data is looked at."""

from __future__ import annotations

from hdrs_hpc.audit.places import PLACES
from hdrs_hpc.broker.certify import FINDERS


def test_every_place_has_its_finder() -> None:
    assert FINDERS.keys() == PLACES.keys()
