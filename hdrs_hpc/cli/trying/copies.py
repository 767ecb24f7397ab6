"""Made-up data as sealed copies, staged by the real stager and kept in the cache: equal recipes are made once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc import __version__
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.cli.trying.recipe import Recipe
from imaging import standalone

_DRAWN_BY = Path(__file__).with_name("archive.py")
"""Another text of it makes all copies anew."""


@dataclass(frozen=True)
class MadeUp:
    """A sealed copy, and the throw-away secret that it was staged under."""

    folder: Path
    secret: bytes
    fresh: bool
    """Whether it was made just now."""

    @property
    def copy(self) -> str:
        return str(self._described()["copy"])

    @property
    def digest(self) -> str:
        return str(self._described()["digest"])

    @property
    def manifest(self) -> str:
        return str(self._described()["manifest"])

    @property
    def key(self) -> bytes:
        return standalone.copy_key(self.secret, self.copy)

    def _described(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "copy.json").read_bytes())
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Of the index."""
        opened = standalone.open_staged(self.folder, self.folder.parent / "secret")
        return list(
            opened.index().select(["kind", "modality", "patient", "shape", "source_items"]).to_pylist()
        )


def served(inputs: Iterable[MadeUp], *, real: bool) -> InputFacts:
    """What a broker would know of inputs like these (``broker/workers/chooser.py``); ``real``: of the true ones."""
    rows = [row for made in inputs for row in made.rows()]
    images = [row for row in rows if row["kind"] != "table"]
    in_tables = sum(row["shape"][0] for row in rows if row["kind"] == "table")
    people = {row["patient"] for row in images}
    unknown = sum(row["patient"] is None for row in images) + in_tables
    return InputFacts(
        len(people - {None}) + unknown,
        len(images) + in_tables,
        sum(max(1, row["source_items"]) for row in images) + in_tables,
        real,
    )


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/hdrs-hpc/try``; a relative path is to be ignored, as the XDG specification says."""
    base = os.environ.get("XDG_CACHE_HOME")
    chosen = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return chosen / "hdrs-hpc" / "try"


def prepare(recipe: Recipe, cache: Path) -> MadeUp:
    """The copy of this recipe: from the cache, or made now.  Two that make it at once both get a whole one."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = _secret(cache / "secret")
    drawn_by = hashlib.sha256(_DRAWN_BY.read_bytes()).hexdigest()
    told = json.dumps([drawn_by, __version__, recipe.as_dict()], sort_keys=True)
    # The secret is part of the name: without it a copy is nothing, and another secret means another copy.
    name = hashlib.sha256(told.encode() + hashlib.sha256(secret).digest()).hexdigest()[:32]
    folder = cache / f"copy-{name}"
    fresh = not (folder / "copy.json").is_file()
    if fresh:
        _make(recipe, folder, secret)
    return MadeUp(folder, secret, fresh)


def _secret(file: Path) -> bytes:
    """One for all copies of the cache, so that a patient has one pseudonym in all of them."""
    if not file.exists():
        with contextlib.suppress(standalone.SecretExistsError):
            standalone.new_secret(file)
    return standalone.read_secret(file)


def _make(recipe: Recipe, folder: Path, secret: bytes) -> None:
    from connectors.sources.folder import FolderSource
    from hdrs_hpc.cli.trying import archive
    from imaging.staging.engine import StagePlan
    from imaging.staging.patient_lists import OptOut
    from imaging.standalone.staging import stage_folder

    draft = Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
    try:
        archive.make(draft / "archive", recipe)
        nobody = OptOut(frozenset(), f"sha256:{'0' * 64}", 0)  # nobody is in it
        key = standalone.deid_key(secret)
        plan = StagePlan("any", "", key, opt_out=nobody, columns=archive.columns(recipe))
        stage_folder(FolderSource(draft / "archive"), draft / "copy", secret, plan)
        with contextlib.suppress(OSError):  # somebody else was faster
            (draft / "copy").rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
