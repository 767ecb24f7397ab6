"""`bundle lock` with uv and folders of made-up wheels; no index is asked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hdrs_hpc.catalogue.flavour_packages import HELD
from hdrs_hpc.client import bundlelock, resolving
from hdrs_hpc.client.resolving import Sources
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.protocol import wheel_lock
from tests.support.wheels import build

ROOT = Path(__file__).resolve().parents[3]
NUMPY = HELD["base", "x86_64"].packages["numpy"]


@pytest.fixture(autouse=True)
def _uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """uv of this machine, or the one that `make` fetched; without its cache and settings."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{ROOT / '.uv/bin'}")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert shutil.which("uv"), "`make` fetches it"


def offered(tmp_path: Path, *built: tuple[str, bytes]) -> Sources:
    folder = tmp_path / "offered"
    folder.mkdir(exist_ok=True)
    for file, raw in built:
        (folder / file).write_bytes(raw)
    return Sources(find_links=(str(folder),), no_index=True)


def code(tmp_path: Path, *asked: str) -> Path:
    folder = tmp_path / "code"
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text("def run(context): ...\n")
    (folder / "requirements.in").write_text("".join(f"{line}\n" for line in asked))
    return folder


def numpy() -> tuple[str, bytes]:
    return build("numpy", NUMPY, {"numpy/__init__.py": b""})


def test_what_is_asked_for_comes_with_what_it_needs_and_without_what_the_flavour_holds(
    tmp_path: Path,
) -> None:
    sources = offered(
        tmp_path, build("tiny", requires=("deeper>=2", "numpy")), build("deeper", "2.5"), numpy()
    )
    folder = code(tmp_path, "tiny")
    made = bundlelock.lock(folder, "base", None, sources)
    assert [(wheel.name, wheel.version) for wheel in made.lock.wheels] == [("deeper", "2.5"), ("tiny", "1.0")]
    assert made.origin == "local files"
    assert wheel_lock.parse((folder / "requirements.lock").read_bytes()) == made.lock
    assert sorted(path.name for path in (folder / "wheels").iterdir()) == [
        "deeper-2.5-py3-none-any.whl",
        "tiny-1.0-py3-none-any.whl",
    ]
    assert str(tmp_path).encode() not in (folder / "requirements.lock").read_bytes(), "no address in it"


def test_the_same_wheels_are_the_same_lock(tmp_path: Path) -> None:
    sources = offered(tmp_path, build("tiny"), build("other"))
    one = bundlelock.lock(code(tmp_path, "tiny", "other"), "base", None, sources)
    two = bundlelock.lock(code(tmp_path, "other", "tiny"), "base", None, sources)
    assert one.lock.digest() == two.lock.digest()


def test_the_wheel_that_fits_the_nodes_best_is_taken(tmp_path: Path) -> None:
    native = build("tiny", tag="cp313-cp313-manylinux_2_17_x86_64")
    sources = offered(
        tmp_path,
        build("tiny"),
        native,
        build("tiny", tag="cp313-cp313-manylinux_2_17_aarch64"),
        build("tiny", tag="cp312-cp312-manylinux_2_17_x86_64"),
    )
    made = bundlelock.lock(code(tmp_path, "tiny"), "base", "x86_64", sources)
    assert [wheel.file for wheel in made.lock.wheels] == [native[0]]


def test_what_no_longer_is_asked_for_goes(tmp_path: Path) -> None:
    sources = offered(tmp_path, build("tiny"), build("other"))
    folder = code(tmp_path, "tiny", "other")
    bundlelock.lock(folder, "base", None, sources)
    bundlelock.lock(code(tmp_path, "tiny"), "base", None, sources)
    assert [path.name for path in (folder / "wheels").iterdir()] == ["tiny-1.0-py3-none-any.whl"]


def test_all_that_is_asked_for_may_be_there_already(tmp_path: Path) -> None:
    made = bundlelock.lock(code(tmp_path, "numpy"), "base", None, offered(tmp_path, numpy()))
    assert made.lock.wheels == ()


@pytest.mark.parametrize(
    ("asked", "wheels", "expected"),
    [
        ("absent", [], "packages-unresolved"),
        ("numpy<1", [build("numpy", "0.9")], "packages-unresolved"),
        ("tiny", [build(requires=("numpy<1",)), build("numpy", "0.9")], "packages-unresolved"),
        ("tiny", [build(tag="cp312-cp312-manylinux_2_17_x86_64")], "packages-unresolved"),
        ("tiny", [("tiny-1.0.tar.gz", b"source")], "packages-unresolved"),
        ("tiny", [build(files={"tiny.pth": b"import os"})], "wheel-runs-at-start"),
        ("tiny", [build(files={"json.py": b""})], "wheel-shadows-names"),
        (
            "one\ntwo",
            [build("one", files={"a.py": b""}), build("two", files={"a.py": b""})],
            "wheels-overlap",
        ),
    ],
)
def test_what_may_not_come_is_refused_and_leaves_no_lock(
    tmp_path: Path, asked: str, wheels: list[tuple[str, bytes]], expected: str
) -> None:
    folder = code(tmp_path, asked)
    with pytest.raises(HdrsError) as refused:
        bundlelock.lock(folder, "base", None, offered(tmp_path, *wheels))
    assert refused.value.code == expected
    assert not (folder / "requirements.lock").exists()


def test_a_flavour_that_is_not_there_and_a_folder_without_requirements(tmp_path: Path) -> None:
    folder = code(tmp_path, "tiny")
    for flavour, platform in (("cobol", None), ("base", "s390x")):
        with pytest.raises(bundlelock.FlavourUnlockedError, match="base on x86_64"):
            bundlelock.lock(folder, flavour, platform, Sources(no_index=True))
    (folder / "requirements.in").unlink()
    with pytest.raises(bundlelock.RequirementsMissingError):
        bundlelock.lock(folder, "base", None, Sources(no_index=True))


def test_without_uv_it_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(resolving.UvMissingError):
        bundlelock.lock(code(tmp_path, "tiny"), "base", None, Sources(no_index=True))


def test_a_reviewer_fetches_the_same_wheels_anew(tmp_path: Path) -> None:
    sources = offered(tmp_path, build("tiny", requires=("deeper",)), build("deeper"))
    made = bundlelock.lock(code(tmp_path, "tiny"), "base", None, sources)
    assert bundlelock.verify(made.lock, sources) == made


def test_a_reviewer_whose_index_has_another_wheel_under_that_name_signs_nothing(tmp_path: Path) -> None:
    made = bundlelock.lock(code(tmp_path, "tiny"), "base", None, offered(tmp_path, build("tiny")))
    sources = offered(tmp_path, build("tiny", files={"tiny.py": b"ANSWER = 43\n"}))
    with pytest.raises(HdrsError) as refused:
        bundlelock.verify(made.lock, sources)
    assert refused.value.code == "wheel-digest-mismatch"


def test_no_wheel_comes_without_tls_but_from_this_machine(tmp_path: Path) -> None:
    package = resolving.Package("tiny", "1.0", ())
    one = resolving.Offered(
        "tiny-1.0-py3-none-any.whl", f"sha256:{'1' * 64}", "http://index.example/tiny.whl"
    )
    with pytest.raises(resolving.WheelFetchError, match="TLS"):
        resolving.fetch(package, one, tmp_path)
