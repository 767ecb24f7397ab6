"""Objects stay what they are: held against dicom3tools, dcmtk, and highdicom's tables of what an IOD requires."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from imaging.deid import object_profiles
from imaging.deid.annex_e import MEANINGS
from imaging.deid.engine import deidentify
from imaging.deid.keyed import DeidKey

KEY = DeidKey(b"k" * 32)
FILES = (
    "CT_small.dcm", "693_J2KI.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm",
    "JPEG-lossy.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_2frame.dcm", "rtdose_1frame.dcm", "rtplan.dcm",
    "liver_1frame.dcm", "test-SR.dcm", "examples_palette.dcm", "waveform_ecg.dcm",
)  # fmt: skip
PROFILES = ("dicom-basic@1", "dicom-research@1")
REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data" / "radiology" / "deident-reference"


def read(name: str) -> Dataset:
    path = get_testdata_file(name)
    assert path is not None, name
    return pydicom.dcmread(str(path))


def complaints(path: Path) -> Counter[str]:
    """Errors of dciodvfy without the values it quotes."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, errors="replace", check=False)
    lines = (done.stderr + done.stdout).splitlines()
    return Counter(
        re.sub(r"\d+(\.\d+)+|=? *<[^>]*>\s*$", "", line) for line in lines if line.startswith("Error")
    )


@pytest.mark.root_parts
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", FILES)
def test_an_object_has_no_fault_that_it_did_not_have_before(name: str, profile: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None or shutil.which("dcmdump") is None:
        pytest.skip(
            "dicom3tools and dcmtk are not installed: nothing says whether the objects are still valid"
        )
    before, after = tmp_path / "before.dcm", tmp_path / "after.dcm"
    dataset = read(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(before, enforce_file_format=True)
        deidentify(dataset, object_profiles.load(profile), KEY).save_as(after, enforce_file_format=True)
    assert complaints(after) - complaints(before) == Counter()
    subprocess.run(["dcmdump", "-q", str(after)], check=True, capture_output=True)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", FILES)
def test_what_the_iod_requires_is_still_there(name: str, profile: str) -> None:
    """Type 1 keeps a value where it had one, type 2 stays present: without any table of IODs in the engine."""
    dataset = read(name)
    result = deidentify(dataset, object_profiles.load(profile), KEY)
    iod = get_sop_class_iod_map()[str(dataset.SOPClassUID)]
    checked = 0
    for module in get_iod_module_map()[iod]:
        if module["usage"] != "M":
            continue
        for attribute in get_module_attribute_map()[module["key"]]:
            keyword, kind = attribute["keyword"], attribute["type"]
            if attribute["path"] or keyword not in dataset or kind not in ("1", "2"):
                continue
            checked += 1
            assert keyword in result, keyword
            if kind == "1" and dataset[keyword].value not in (None, ""):
                assert result[keyword].value not in (None, ""), keyword
    assert checked > 8


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs ../shared/data: what a vendor's tool de-identified")
def test_what_a_vendor_deidentified_is_stamped_on_top_of_its_own_codes() -> None:
    for path in sorted(REFERENCE.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        earlier = {item.CodeValue for item in dataset.get("DeidentificationMethodCodeSequence") or ()}
        result = deidentify(dataset, object_profiles.load("dicom-research@1"), KEY)
        codes = {item.CodeValue for item in result.DeidentificationMethodCodeSequence}
        assert codes >= {"113100", "113105", "113107"} | (earlier & set(MEANINGS))
        assert result.PixelData == dataset.PixelData
        assert not [e for e in result if e.tag.is_private and e.VR in ("UN", "OB", "LT", "UT")]
