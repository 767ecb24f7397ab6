"""Attack: a workload that lies writes bits into artefacts that pass, and reads them back from what is released.

The measured figures stand in docs/security-model.md; a test compares.
"""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "metrics": {}, "image": {}})
REAL = InputFacts(people=5_000, items=20_000, instances=100_000, real=True)
MANY = InputFacts(people=50_000, items=50_000, instances=100_000, real=True)
SYNTHETIC = InputFacts(people=5_000, items=20_000, instances=100_000, real=False)
SECURITY_MODEL = Path(__file__).parents[4] / "docs/security-model.md"


def release(declared: Declared, data: bytes, inputs: InputFacts = REAL) -> Checked:
    checked = check_set([(declared, data)], RULES, bytes(16), inputs)[0]
    assert checked.refused is None, checked.report["sentences"]
    return checked


class Bits:
    """A secret, drawn off in numbers."""

    def __init__(self, count: int) -> None:
        self.value = random.Random(22).getrandbits(count)
        self._rest = self.value
        self.taken = 0

    def take(self, width: int) -> int:
        drawn = self._rest & ((1 << width) - 1)
        self._rest >>= width
        self.taken += width
        return drawn


class Read:
    """The same numbers put together again."""

    def __init__(self) -> None:
        self.value = self.width = 0

    def put(self, number: int, width: int) -> None:
        self.value |= number << self.width
        self.width += width


def number_of(bits: int) -> str:
    """A number of four significant digits for 19 bits: 13 in the digits, 5 in the exponent, one in the sign."""
    digits, exponent, sign = 1000 + (bits & 8191) % 8192, (bits >> 13) & 31, bits >> 18
    return f"{'-' if sign else ''}{digits}e{exponent - 20}"


def bits_of(text: str) -> int:
    value = float(text)
    mantissa, exponent = f"{abs(value):.3e}".split("e")
    digits = round(float(mantissa) * 1000)
    return (digits - 1000) | (int(exponent) - 3 + 20) << 13 | (value < 0) << 18


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def test_bits_through_a_table() -> None:
    """Choice of declared labels, rounded counts and statistics at once, as many as pass."""
    secret, read = Bits(400_000), Read()
    shown, choosing, counts = 64, 128, [f"n{at}" for at in range(8)]
    labels = [
        [f"{LETTERS[at % 26]}{LETTERS[at // 26]}" for at in range(size)]
        for size in (shown, shown, choosing, choosing, choosing)
    ]
    rows = []
    for at in range(shown * shown):
        own = [
            labels[0][at // shown],
            labels[1][at % shown],
            *(labels[two + 2][secret.take(7)] for two in range(3)),
        ]
        numbers = [str(10 + 5 * secret.take(2)) for _ in counts]
        rows.append([*own, *numbers, number_of(secret.take(18)) if at < 2_000 else ""])
    header = ["a", "b", "c", "d", "e", *counts, "x"]
    columns = {
        **{name: {"key": values} for name, values in zip("abcde", labels, strict=True)},
        **{name: {"count": "images of patients"} for name in counts},
        "x": {"measure": "estimate", "from": 0, "to": 1e15, "step": 1e-20},
    }
    text = "\n".join(",".join(row) for row in [header, *rows]) + "\n"
    checked = release(declaring.declared("t", columns, size=8 << 20), text.encode(), MANY)
    assert checked.rebuilt is not None

    back = list(csv.DictReader(io.StringIO(checked.rebuilt.decode())))
    for row in sorted(back, key=lambda row: (place(row["a"]), place(row["b"]))):
        for name in "cde":
            read.put(place(row[name]), 7)
        for name in counts:
            read.put((int(row[name]) - 10) // 5, 2)
        if row["x"]:
            read.put(bits_of(row["x"]), 18)
    assert read.width == secret.taken
    assert read.value == secret.value & ((1 << read.width) - 1)
    bound = checked.report["repaired"]["capacity-bits"]
    assert read.width <= bound
    assert quoted("table") == (read.width, bound)


def place(label: str) -> int:
    return LETTERS.index(label[0]) + 26 * LETTERS.index(label[1])


def test_bits_through_metrics() -> None:
    secret = Bits(10_000)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEF"
    entries = {}
    for at in range(63):
        name = f"m{at:02d}" + "".join(alphabet[secret.take(5)] for _ in range(37))
        entries[name] = float(number_of(secret.take(18)))
    text = json.dumps({"n_patients": 5_000, **entries}).encode()
    checked = release(
        Declared("m", "metrics", "m.json", counts=("n_patients",), measures=("m*", *entries)), text
    )
    assert checked.rebuilt is not None
    read = Read()
    for name, value in sorted(json.loads(checked.rebuilt).items()):
        if name.startswith("m"):
            for letter in name[3:]:
                read.put(alphabet.index(letter), 5)
            read.put(bits_of(repr(value)), 18)
    assert read.width == secret.taken
    assert read.value == secret.value & ((1 << read.width) - 1)
    assert read.width <= checked.report["repaired"]["capacity-bits"]
    assert quoted("metrics") == (read.width, checked.report["repaired"]["capacity-bits"])


def test_bits_through_a_figure_of_data_that_are_not_real() -> None:
    """Five bits a channel in every pixel; of real data none."""
    draw = np.random.default_rng(22)
    secret = draw.integers(0, 32, (512, 512, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(secret << 3).save(out, format="PNG")
    text = b"bin,n\na,20\nb,30\n"
    table = (declaring.table(text, name="d"), text)
    figure = (Declared("f", "image", "f.png", (), "d", 8 << 20), out.getvalue())
    checked = check_set([figure, table], RULES, bytes(16), SYNTHETIC)[0]
    assert checked.rebuilt is not None
    pixels = np.asarray(Image.open(io.BytesIO(checked.rebuilt)))
    assert np.array_equal(pixels >> 3, secret)
    bound = checked.report["repaired"]["capacity-bits"]
    assert secret.size * 5 <= bound
    assert quoted("image") == (secret.size * 5, bound)
    refused = check_set([figure, table], RULES, bytes(16), REAL)[0]
    assert (refused.refused, refused.rebuilt) == ("artefact-of-real-data", None)


def quoted(cls: str) -> tuple[int, int]:
    """What the security model tells of a class: bits sent through here, and the bound for the same artefact."""
    for line in SECURITY_MODEL.read_text("utf-8").splitlines():
        if line.startswith(f"| `{cls}` |"):
            sent, bound = (int(cell.split()[0].replace(",", "")) for cell in line.split("|")[2:4])
            return sent, bound
    raise AssertionError(f"the security model has no row on {cls}")
