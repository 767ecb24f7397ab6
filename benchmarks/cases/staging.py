"""Staged copies that cases start from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.bench import Bench, ours
from benchmarks.measure import files, sync_tree
from hdrs_hpc.core.errors import InternalError


class StagingForBenchmarkError(InternalError):
    code = "benchmark-staging-failed"
    meaning = "The benchmark's own data could not be staged."
    remedy = "Run `hdrs-hpc imaging stage` on them to see why, and report it."


NOBODY = ("--no-opt-out", "data made for the benchmark")
"""What `imaging stage` is told of opt-outs."""


def secret_of(bench: Bench) -> Path:
    """A secret of this run."""
    from imaging import standalone

    path = bench.scratch / "secret"
    if not path.exists():
        bench.scratch.mkdir(parents=True, exist_ok=True)
        standalone.new_secret(path)
    return path


def staged(bench: Bench, source: Path, name: str) -> Path:
    """A copy of ``source`` staged in this run, by the code of today.  Raises :class:`StagingForBenchmarkError`."""
    dest = bench.scratch / f"copy-{name}"
    if not dest.exists():
        bench.watcher.making(f"staging {name}", 0, 1)
        done = subprocess.run(
            ours(
                "imaging",
                "stage",
                source,
                dest,
                "--secret",
                secret_of(bench),
                *NOBODY,
                "--max-failed",
                "0",
                "--json",
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StagingForBenchmarkError(done.stderr.strip().rpartition("\n")[2][:200])
        said = json.loads(done.stdout)
        if said["staged"]["items"] != said["in"]["items"]:
            raise StagingForBenchmarkError(f"kept out: {', '.join(said['refused'])}")
        bench.watcher.making(f"staging {name}", 1, 1)
    return dest


def unsealed(bench: Bench, copy: Path, name: str) -> Path:
    """The same zarr, the same bytes, as plain files: what a reader without sealing has."""
    from imaging import standalone

    dest = bench.scratch / f"plain-{name}"
    if not dest.exists():
        opened = standalone.open_copy(copy, standalone.read_secret(secret_of(bench)))
        for path in opened.paths():
            target = dest / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(opened.read(path))
        sync_tree(dest)
    return dest


def by_hand(bench: Bench, plain: Path, item: str, name: str) -> Path:
    """A sealed copy whose one ``item`` (``slides/<id>``) holds the files below ``plain``."""
    from hdrs_hpc.core import strict_json
    from hdrs_hpc.sealing.copy_builder import CopyBuilder
    from hdrs_hpc.sealing.objects.directory import DirectoryStore
    from imaging import standalone

    dest = bench.scratch / f"copy-{name}"
    if dest.exists():
        return dest
    (dest / "journal").mkdir(parents=True)
    key = standalone.copy_key(standalone.read_secret(secret_of(bench)), name)
    builder = CopyBuilder(
        DirectoryStore(dest / "objects"), key, "copy", standalone.PROJECT, name, dest / "journal"
    )
    for path in files((plain,)):
        builder.put(f"{item}/{path.relative_to(plain)}", path.read_bytes())
    builder.finish_item(item, {})
    sealed = builder.seal()
    builder.close()
    described = {"schema": standalone.SCHEMA, "copy": name, "digest": sealed.manifest_digest}
    (dest / "copy.json").write_bytes(strict_json.dumps(described))
    return dest
