"""Names that are hidden within a text: spelled letter by letter, or with characters between that nobody sees."""

import pytest
from pydicom.dataset import Dataset

from imaging.deid.text import NOBODY, Identifiers, cleaned, is_technical


def known() -> Identifiers:
    said = Dataset()
    said.PatientName = "Vanterpool^Ottoline"
    return Identifiers(said)


@pytest.mark.parametrize("name", [
    "V a n t e r p o o l", "V.A.N.T.E.R.P.O.O.L", "v_a_n_t_e_r_p_o_o_l", "o t t o l i n e  v a n t e r p o o l",
    "Van\u200bterpool", "Van\u00adterpool", "Vanter\u2060pool\ufeff",
])  # fmt: skip
def test_a_known_name_goes_however_it_is_spelled(name: str) -> None:
    assert cleaned(f"head {name}", known()) == "head"
    assert cleaned(f"head {name} contrast", known()) == "head contrast"
    assert not is_technical(f"head {name}", known())


def test_letters_that_are_no_name_stay() -> None:
    assert cleaned("head A P L R", known()) == cleaned("head A P L R", NOBODY) == "head A P L R"
