"""Elements under VR UN, through a whole staging: the copy is the same."""

from pathlib import Path
from random import Random

import numpy as np
import pydicom
import pytest
from archive import SHARED, series
from pydicom.uid import ExplicitVRLittleEndian
from test_staging_radiology import Staged
from unknown_vr import rewritten

CASE = SHARED / "cases" / "un_charset" / "in"


@pytest.mark.parametrize("undefined", [False, True])
def test_a_series_whose_elements_come_under_un_gives_the_same_copy(tmp_path: Path, undefined: bool) -> None:
    random = Random(1)
    for number, path in enumerate(series(tmp_path / "a", name="s", slices=4)):
        made = pydicom.dcmread(path)
        made.walk(lambda _, element: None)  # all converted
        # The first file whole, the second with all elements under UN, then some: each is read along the one before.
        share = (0.0, 1.0, 0.3, 0.7)[number]
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / path.name).write_bytes(
            rewritten(
                made,
                ExplicitVRLittleEndian,
                lambda element, share=share: not element.tag.is_private and random.random() < share,
                undefined,
            )
        )
    one, other = Staged(tmp_path / "a", tmp_path / "one"), Staged(tmp_path / "b", tmp_path / "other")
    assert (one.rows, other.refused) == (other.rows, {})
    assert dict(one.group().attrs) == dict(other.group().attrs)
    assert np.array_equal(one.voxels(), other.voxels())


@pytest.mark.skipif(not CASE.is_dir(), reason="needs ../shared/data")
def test_the_case_is_staged(tmp_path: Path) -> None:
    staged = Staged(CASE, tmp_path)
    assert (staged.refused, staged.rows[0]["shape"]) == ({}, [1, 32, 32])
