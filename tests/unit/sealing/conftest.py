"""A sealed copy in a folder, to be read, resumed and attacked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from hdrs_hpc.sealing.copy_builder import CopyBuilder, SealedCopyRef
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy


@dataclass
class Bench:
    """One copy: where its objects and journals lie, and how to open it."""

    folder: Path
    key: bytes
    project: str = "lungs"
    holder: str = "7K3QW2"

    @property
    def objects(self) -> DirectoryStore:
        return DirectoryStore(self.folder / "objects")

    @property
    def journals(self) -> Path:
        return self.folder / "journals"

    def builder(self) -> CopyBuilder:
        return CopyBuilder(self.objects, self.key, "copy", self.project, self.holder, self.journals)

    def open(self, ref: SealedCopyRef) -> SealedCopy:
        return SealedCopy.open(self.objects, self.key, "copy", self.project, self.holder, ref.manifest_digest)

    def raw(self) -> dict[str, bytes]:
        """Every byte that was written, by file."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "bench", os.urandom(32))


@pytest.fixture
def other_bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "other", os.urandom(32))
