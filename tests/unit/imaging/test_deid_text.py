from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from imaging.deid.text import NOBODY, Identifiers, cleaned, is_technical
from imaging.deid.words import is_safe


def known() -> Identifiers:
    dataset = Dataset()
    dataset.PatientName = "Hand^Zoë=花子"
    dataset.PatientID = "943 476 5919"
    dataset.ReferringPhysicianName = "Ng^Li"
    dataset.InstitutionName = "St Ethelburga"
    item = Dataset()
    item.PatientName = "Grimshaw^Percival"
    dataset.OtherPatientIDsSequence = [item]
    return Identifiers(dataset)


@pytest.mark.parametrize(
    "text",
    [
        "AX T1 SE POST GAD",
        "CT CHEST W/O CONTRAST",
        "t2_tse_tra 3mm",
        "Lung nodule follow up",
        "FDG PET whole body AC",
        "DWI b1000 ADC",
        "1.5T brain",
        "Abdomen + pelvis, portal venous phase",
        "MLO left breast tomosynthesis",
        "Omnipaque300",
        "circle of Willis",
        "Baker's cyst",
        "5 x 3 mm",
        "TE90 TR500",
        "C7 L5 vertebra",
        "Series 12",
        "Transesophageal Echocardiogram",
        "Non-ossifying fibroma of distal tibia",
        "JPEG irreversible (lossy) 10:1",
    ],
)
def test_technique_and_anatomy_stay_word_for_word(text: str) -> None:
    assert cleaned(text, NOBODY) == text


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("CHEST Smithson", "CHEST"),
        ("Seen by Dr Wilson", "Seen by Dr"),
        ("brain 12/03/2014", "brain"),
        ("brain 2014-03-12 axial", "brain axial"),
        ("brain 12th March 2014", "brain"),
        ("brain Mar 2014", "brain"),
        ("brain 3 may", "brain"),
        ("knee 20140312", "knee"),
        ("knee 07700 900123", "knee"),
        ("knee +44 7700 900123", "knee"),
        ("knee (555) 010-1234", "knee"),
        ("knee a.b@c.org", "knee"),
        ("knee https://x.org/y", "knee"),
        ("knee 943-476-5919", "knee"),
        ("knee 1.2.840.10008.1", "knee"),
        ("knee AB123456", "knee"),
        ("knee 17 Birchwood Close", "knee"),
        ("knee SW1A 1AA", "knee"),
        ("knee Mr. O'Neill-Jones", "knee Mr"),
        ("MRN 4471", "MRN"),
        ("born 1961", ""),
        ("花子 head", "head"),
        ("Müller head", "head"),
    ],
)  # fmt: skip
def test_what_has_the_shape_of_a_person_or_a_day_goes(text: str, rest: str) -> None:
    got = cleaned(text, NOBODY)
    assert got in {rest, rest.replace(" Dr", "").replace(" Mr", ""), rest.replace("MRN", "")}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("left HAND ap", "left ap"),
        ("ZOE head", "head"),
        ("zoë's head", "head"),
        ("percivalgrimshaw head", "head"),
        ("head 9434765919", "head"),
        ("head 943/476/5919", "head"),
        ("head at St Ethelburga", "head at"),
        ("head ng li", "head"),
    ],
)
def test_what_the_same_object_says_of_people_goes_even_if_it_is_a_harmless_word(text: str, rest: str) -> None:
    assert cleaned(text, known()) == rest


@pytest.mark.parametrize(
    "word", ["paget", "smith", "wilson", "grace", "may", "baker", "müller", "12345", "2014", ""]
)
def test_names_and_long_numbers_are_not_safe_words(word: str) -> None:
    assert not is_safe(word)


# The most frequent names of England and the United States, and large towns.
_FREQUENT = """
smith jones williams taylor davies wilson evans thomas johnson roberts walker wright robinson thompson hughes edwards
green wood harris martin jackson clarke clark lewis turner hill scott cooper morris moore ward watson morgan anderson
harrison king baker patel khan singh begum hussain ahmed ali kaur mohammed murphy kelly oliver george harry noah jack
leo arthur muhammad oscar charlie olivia amelia isla ava mia ivy lily rosie sophia grace freya willow florence emily
ella poppy evie elsie jacob alexander james william daniel henry joseph samuel john peter paul david michael robert
mary susan margaret elizabeth patricia linda barbara anne helen sarah karen nancy lisa betty sandra ashley kimberly
donna carol ruth sharon laura cynthia amy kathleen angela shirley brenda emma anna pamela nicole virginia katherine
christine samantha debra rachel london manchester leeds bristol oxford cambridge york boston houston dallas austin
lincoln wells reading chester bath hull derby garcia miller davis rodriguez martinez hernandez lopez gonzalez perez
sanchez ramirez torres nguyen flores rivera campbell mitchell carter gomez phillips diaz parker cruz collins reyes
stewart rogers gutierrez ortiz peterson bailey reed howard ramos kim cox richardson watson brooks chavez bennett gray
mendoza ruiz alvarez castillo price sanders myers ross foster jimenez powell jenkins perry russell sullivan bell
coleman butler henderson barnes fisher vasquez simmons graham murray jordan reynolds hamilton ford wallace west cole
hayes bryant herrera gibson ellis tran medina marshall owens freeman webb mason hunt dixon fernandez stone
"""
_TAKEN_FOR_TECHNIQUE = {"dixon", "gray", "west", "stone"}


@pytest.mark.parametrize("name", sorted(set(_FREQUENT.split()) - _TAKEN_FOR_TECHNIQUE))
def test_a_frequent_name_is_no_safe_word(name: str) -> None:
    assert not is_safe(name)


def test_names_that_a_scanner_writes_more_often_than_a_person_bears_them_are_few() -> None:
    assert {name for name in _FREQUENT.split() if is_safe(name)} <= _TAKEN_FOR_TECHNIQUE


@pytest.mark.parametrize(
    ("text", "technical"),
    [
        ("SOMATOM Definition AS+", True),
        ("*tfl3d1_16ns", True),
        ("syngo MR E11", True),
        ("Br40d\\3", True),
        ("51.80.108.010", True),
        ("2.6.3.6", True),
        ("12.03.2014", False),
        ("1.2.840.113619.2.55.3.2831164355", False),
        ("Dr Wilson's scanner", False),
        ("call 07700 900123", False),
        ("2014-03-12", False),
        ("Grimshaw", False),
        ("9434765919", False),
        ("x" * 65, False),
        ("a\x00b", False),
    ],
)
def test_what_a_device_writes_stays_unless_it_names_somebody(text: str, technical: bool) -> None:
    assert is_technical(text, known()) is technical
