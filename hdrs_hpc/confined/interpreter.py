"""What a confined process must see to run Python with packages of ours: the interpreter, its libraries, no more."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from hdrs_hpc.confined.port import Shown


def shown(*packages: Path) -> tuple[Shown, ...]:
    """This interpreter and the folders ``packages``, under their own names and read-only.

    Not the folder around a package, which may hold data.  /usr is shown to all, so what lies there is left out.
    """
    wanted = {Path(sys.base_prefix), Path(sys.prefix), *packages, *_links()}
    if sys.pycache_prefix and Path(sys.pycache_prefix).is_dir():
        wanted.add(
            Path(sys.pycache_prefix)
        )  # compiled anew in each process, starting takes three times as long
    return tuple(Shown(place, place) for place in _outermost(wanted | {place.resolve() for place in wanted}))


def _links() -> Iterable[Path]:
    """A virtual environment may reach its interpreter through several links."""
    link = Path(sys.executable)
    while link.is_symlink():
        target = link.readlink()
        link = target if target.is_absolute() else link.parent / target
        prefix = link.parent.parent
        # The folder around a lone link, such as ~/bin/python3, is somebody's home.
        yield prefix if _is_installation(prefix) else link


def _is_installation(prefix: Path) -> bool:
    library = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (prefix / "pyvenv.cfg").is_file() or (library / "os.py").is_file()


def _outermost(places: Iterable[Path]) -> list[Path]:
    kept: list[Path] = []
    for place in sorted(places):
        if place != Path("/") and not any(place.is_relative_to(other) for other in (*kept, Path("/usr"))):
            kept.append(place)
    return kept
