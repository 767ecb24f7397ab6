"""Which wheels may come along with a bundle, and which attacks on whoever reads them are refused."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.catalogue.flavour_packages import HELD
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.protocol import wheel_lock, wheels
from hdrs_hpc.protocol.wheel_lock import Lock, Wheel
from tests.support.wheels import build, lock, row

BASE = HELD["base", "x86_64"]
HELD_HERE = BASE
NATIVE = "cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64"


def check(*built: tuple[str, bytes], mem_mb: int | None = None) -> int:
    raw = dict(built)
    found = lock(*built)
    wheel_lock.parse(found.to_bytes())
    for wheel in found.wheels:
        wheels.verify(io.BytesIO(raw[wheel.file]), wheel)
    return wheels.check(found, lambda wheel: io.BytesIO(raw[wheel.file]), HELD_HERE, mem_mb)


def code(*built: tuple[str, bytes], **more: Any) -> str:
    with pytest.raises(HdrsError) as refused:
        check(*built, **more)
    return refused.value.code


def entry(name: str, mode: int = 0, data: bytes = b"x") -> tuple[tuple[zipfile.ZipInfo, bytes], ...]:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return ((info, data),)


def bare(archive: bytes) -> tuple[str, bytes]:
    return "tiny-1.0-py3-none-any.whl", archive


@pytest.mark.parametrize(
    "built",
    [
        build(),
        build(
            "native-thing",
            "2.1",
            {"native_thing/core.so": b"\x7fELF", "native_thing/__init__.py": b""},
            tag=NATIVE,
        ),
        build(tag="cp39-abi3-manylinux_2_28_x86_64"),
        build(tag="py2.py3-none-any"),
        build(tag="cp313-none-linux_x86_64"),
        build(
            files={"tiny-1.0.data/purelib/tiny/__init__.py": b"", "tiny-1.0.data/scripts/tiny": b"#!python\n"}
        ),
        build(files={"tiny/weights.pth": b"deeper down it is a file like any other"}),
    ],
)
def test_usual_wheels_are_taken(built: tuple[str, bytes]) -> None:
    assert check(built) > 0


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (("tiny-1.0.tar.gz", b"x"), "wheel-not-built"),
        (("tiny-1.0.zip", b"x"), "wheel-not-built"),
        (build(tag="cp312-cp312-manylinux_2_17_x86_64"), "wheel-other-platform"),
        (build(tag="cp313-cp313t-manylinux_2_17_x86_64"), "wheel-other-platform"),
        (build(tag="cp313-cp313-manylinux_2_17_aarch64"), "wheel-other-platform"),
        (build(tag="cp313-cp313-manylinux_2_39_x86_64"), "wheel-other-platform"),
        (build(tag="cp313-cp313-musllinux_1_2_x86_64"), "wheel-other-platform"),
        (build(tag="cp313-cp313-win_amd64"), "wheel-other-platform"),
        (build(tag="cp314-abi3-manylinux_2_17_x86_64"), "wheel-other-platform"),
        (build(tag="py2-none-any"), "wheel-other-platform"),
        (build(said="cp312-cp312-win_amd64"), "wheel-other-platform"),
        (build("numpy", "1.0"), "wheel-in-flavour"),
        (build(files={"tiny.pth": b"import os"}), "wheel-runs-at-start"),
        (build(files={"tiny-1.0.data/purelib/tiny.pth": b"import os"}), "wheel-runs-at-start"),
        (build(files={"sitecustomize.py": b""}), "wheel-runs-at-start"),
        (build(files={"usercustomize/__init__.py": b""}), "wheel-runs-at-start"),
        (build(files={"sitecustomize.cpython-313-x86_64-linux-gnu.so": b""}), "wheel-runs-at-start"),
        (build(files={"hdrs_hpc/evil.py": b""}), "wheel-shadows-names"),
        (build(files={"imaging.py": b""}), "wheel-shadows-names"),
        (build(files={"json/__init__.py": b""}), "wheel-shadows-names"),
        (build(files={"tiny-1.0.data/platlib/numpy/evil.py": b""}), "wheel-shadows-names"),
        (build(files={"../outside.py": b""}), "wheel-unsafe-path"),
        (build(files={"/etc/outside.py": b""}), "wheel-unsafe-path"),
        (build(files={"tiny/../../outside.py": b""}), "wheel-unsafe-path"),
        (build(files={"tiny-1.0.data/purelib/../../outside.py": b""}), "wheel-unsafe-path"),
        (build(files={"tiny//a.py": b""}), "wheel-unsafe-path"),
        (build(files={"tiny\\a.py": b""}), "wheel-unsafe-path"),
        (build(files={"tiny/a\x1b[2J.py": b""}), "wheel-unsafe-path"),
        (build(files={f"tiny/{'a' * 300}.py": b""}), "wheel-unsafe-path"),
        (build(extra=entry("tiny/link", stat.S_IFLNK | 0o777, b"/etc/passwd")), "wheel-unsafe-path"),
        (build(extra=entry("tiny/pipe", stat.S_IFIFO | 0o666)), "wheel-unsafe-path"),
        (bare(b"not a zip file at all, but long enough"), "wheel-malformed"),
        (bare(b""), "wheel-malformed"),
        (bare(build()[1] + b"x"), "wheel-malformed"),
        (bare(build(name="other")[1]), "wheel-malformed"),
        (build(extra=entry("tiny-1.0.data/purelib/tiny.py")), "wheel-malformed"),
        (build(extra=entry("more-1.0.dist-info/WHEEL")), "wheel-malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0][:40],
)
def test_wheels_that_may_not_come(built: tuple[str, bytes], expected: str) -> None:
    if not built[1]:
        with pytest.raises(HdrsError) as refused:
            wheels.contents(io.BytesIO(b""), row(*built), "x86_64", HELD_HERE)
        assert refused.value.code == expected
    else:
        assert code(built) == expected


def test_a_zip_that_claims_a_directory_of_gigabytes_is_refused_before_it_is_read() -> None:
    _, raw = build()
    bomb = raw[:-10] + struct.pack("<L", 17 << 20) + raw[-6:]
    assert code(bare(bomb)) == "wheels-too-large"


def test_a_directory_told_a_second_time_in_another_form_is_refused() -> None:
    _, raw = build()
    sixty_four = b"PK\x06\x07" + bytes(16)
    assert code(bare(raw[:-22] + sixty_four + raw[-22:])) == "wheel-malformed"


def test_what_unpacks_to_more_than_there_may_be_is_refused() -> None:
    file, raw = build(files={"tiny/zeros.bin": bytes(4 << 20)})
    directory = raw.index(b"PK\x01\x02")
    assert len(raw) < 64 << 10  # a thousandth of what it unpacks to
    assert struct.unpack("<L", raw[directory + 24 : directory + 28]) == (4 << 20,)
    bombs = []
    for number in range(5):
        name = f"tiny{number}"
        one_file, one = build(name, files={f"{name}/zeros.bin": bytes(1 << 20)})
        at = one.index(b"PK\x01\x02")
        bombs.append((one_file, one[: at + 24] + struct.pack("<L", 0xFFFFFFF0) + one[at + 28 :]))
    assert code(*bombs) == "wheels-too-large"
    assert (file, code(build(files={"tiny/zeros.bin": bytes(4 << 20)}), mem_mb=3)) == (
        file,
        "wheels-over-memory",
    )


def test_a_file_that_unpacks_to_more_than_it_says_stops_there(tmp_path: Path) -> None:
    file, raw = build(files={"tiny/zeros.bin": bytes(1 << 20)})
    at = raw.index(b"PK\x01\x02")
    short = raw[: at + 24] + struct.pack("<L", 1000) + raw[at + 28 :]
    with pytest.raises(HdrsError) as refused:
        wheels.unpack(io.BytesIO(short), row(file, short), "x86_64", HELD_HERE, tmp_path)
    assert refused.value.code == "wheel-malformed"
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1000


def test_files_that_lie_on_each_other_are_refused() -> None:
    file, raw = build(files={f"tiny/{number}.bin": bytes(range(256)) * 8 for number in range(2)})
    spot = raw.index(b"PK\x01\x02")
    grown = raw[: spot + 20] + struct.pack("<L", len(raw)) + raw[spot + 24 :]
    assert code((file, grown)) == "wheel-malformed"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"shared/a.py": b""}, {"shared/a.py": b""}),
        ({"shared/a": b""}, {"shared/a/b.py": b""}),
        ({"shared/a/b.py": b""}, {"shared/a": b""}),
    ],
)
def test_two_wheels_may_not_hold_the_same_file(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert code(build("one", files=one), build("two", files=other)) == "wheels-overlap"


def test_two_wheels_may_share_a_folder() -> None:
    check(build("one", files={"shared/a.py": b""}), build("two", files={"shared/b.py": b""}))


def test_other_bytes_under_the_right_name_are_found() -> None:
    file, raw = build()
    with pytest.raises(wheels.WheelDigestError):
        wheels.verify(io.BytesIO(raw[:-1] + b"x"), row(file, raw))
    with pytest.raises(wheels.WheelDigestError):
        wheels.verify(io.BytesIO(raw + b"x"), row(file, raw))


def test_no_cut_or_flipped_byte_of_a_wheel_escapes_the_hash() -> None:
    file, raw = build()
    wheel = row(file, raw)
    for at in range(0, len(raw), 7):
        for broken in (raw[:at], raw[:at] + bytes([raw[at] ^ 0x41]) + raw[at + 1 :]):
            with pytest.raises(wheels.WheelDigestError):
                wheels.verify(io.BytesIO(broken), wheel)


def test_no_flipped_byte_of_a_wheel_makes_the_reader_crash(tmp_path: Path) -> None:
    """The node checks the hash first; the broker's reader stands on its own."""
    file, raw = build(files={"tiny/a.py": b"a = 1\n" * 50})
    refused = 0
    for at in range(len(raw)):
        for flip in (0x01, 0x80, 0xFF):
            broken = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
            try:
                wheels.unpack(
                    io.BytesIO(broken), row(file, broken), "x86_64", HELD_HERE, tmp_path / f"{at}-{flip}"
                )
            except HdrsError:
                refused += 1
    assert refused > len(raw)
    assert not (tmp_path.parent / "outside.py").exists()


def test_unpacked_is_what_may_be_imported_and_nothing_else(tmp_path: Path) -> None:
    file, raw = build(
        files={
            "tiny/__init__.py": b"ANSWER = 42\n",
            "tiny-1.0.data/platlib/tiny/fast.so": b"\x7fELF",
            "tiny-1.0.data/scripts/tiny": b"#!python\n",
            "tiny-1.0.data/headers/tiny.h": b"",
            "tiny-1.0.data/data/etc/tiny.conf": b"",
        }
    )
    wheels.unpack(io.BytesIO(raw), row(file, raw), "x86_64", HELD_HERE, tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    info = "tiny-1.0.dist-info"
    assert found == {
        "tiny/__init__.py",
        "tiny/fast.so",
        f"{info}/METADATA",
        f"{info}/WHEEL",
        f"{info}/RECORD",
    }


# --- the lock


def test_a_lock_reads_back_as_it_was_written() -> None:
    made = lock(build("b-two", "0.1"), build("a", "1.0"))
    assert wheel_lock.parse(made.to_bytes()) == made
    assert made.size == sum(wheel.size for wheel in made.wheels)


GOOD = lock(build("one"), build("two")).to_bytes()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"six==1.16.0\n",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD.replace(b"flavour base", b"flavour ../base"),
        GOOD.replace(b"--hash=sha256:", b"--hash=md5:"),
        GOOD.replace(b"one==", b"https://evil/one=="),
        b"\n".join([*GOOD.split(b"\n")[:1], *reversed(GOOD.split(b"\n")[1:3]), b""]),
        GOOD.replace(GOOD.split(b"\n")[2], GOOD.split(b"\n")[1]),
        GOOD.replace(b"one", b"\xc3\xb6ne"),
        GOOD + b"#" * (256 << 10),
    ],
)
def test_a_lock_that_we_did_not_write_is_refused(raw: bytes) -> None:
    with pytest.raises(wheel_lock.LockMalformedError):
        wheel_lock.parse(raw)


def test_a_lock_lists_no_more_and_no_larger_wheels_than_there_may_be() -> None:
    digest = f"sha256:{'1' * 64}"
    many = tuple(Wheel(f"w{n:03}", "1", digest, f"w{n:03}-1-py3-none-any.whl", 1) for n in range(501))
    for wheels_of in (many, (Wheel("w", "1", digest, "w-1-py3-none-any.whl", (4 << 30) + 1),)):
        with pytest.raises(wheel_lock.WheelsTooLargeError):
            wheel_lock.parse(Lock("base", "x86_64", wheels_of).to_bytes())


def test_a_lock_whose_wheel_has_another_name_than_its_file_is_refused() -> None:
    file, raw = build()
    made = Lock("base", "x86_64", (row(file, raw, name="innocent"),))
    with pytest.raises(wheel_lock.NotAWheelError):
        wheel_lock.parse(made.to_bytes())


@pytest.mark.parametrize(
    "files",
    [{}, {"requirements.lock": lock(build("other")).to_bytes()}, {"requirements.lock": lock().to_bytes()}],
)
def test_the_bundles_lock_is_the_one_that_the_spec_names(files: dict[str, bytes]) -> None:
    signed = lock(build())
    with pytest.raises(wheel_lock.LockDigestError):
        wheel_lock.of_bundle(files, signed.digest())
    named = wheel_lock.of_bundle({"requirements.lock": signed.to_bytes()}, signed.digest())
    assert named == signed


def test_wheels_that_the_spec_does_not_name_are_refused() -> None:
    with pytest.raises(wheel_lock.LockDigestError):
        wheel_lock.of_bundle({"requirements.lock": lock(build()).to_bytes()}, None)
    assert wheel_lock.of_bundle({"requirements.lock": lock().to_bytes()}, None) is None
    assert wheel_lock.of_bundle({}, None) is None
