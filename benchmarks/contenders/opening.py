"""Opening a large copy: ``ITEMS OBJECTS DEST`` makes the manifests of such a copy, then opens it and reads one object.

Only what opening touches is written: the root manifest, one item's manifest, one object.  Making is not timed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.contenders import tell
from hdrs_hpc.sealing.cipher import Sealer
from hdrs_hpc.sealing.manifest import Entry, SealedPlace, seal_item, seal_root
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy

DATA = b"one object of many"


def main(items: int, objects: int, dest: Path) -> None:
    key = os.urandom(32)
    place = SealedPlace("copy", "standalone", "opening")
    store = DirectoryStore(dest / "objects")
    wanted = _path(items // 2, objects // 2)
    sealer = Sealer(key, place.context(wanted))
    sealed = b"".join(map(bytes, sealer.stream([DATA])))
    store.put("o-real", sealed)
    manifests = []
    for item in range(items):
        # Any header will do for what is never read.
        entries = [
            Entry(path, f"o-{item}-{number}", len(DATA), sealer.header)
            for number in range(objects)
            if (path := _path(item, number)) != wanted
        ]
        if len(entries) < objects:
            entries.append(Entry(wanted, "o-real", len(DATA), sealer.header))
        manifest = seal_item(key, place, f"series/i{item:07d}", entries)
        manifests.append(manifest.entry)
        if item == items // 2:
            store.put(manifest.entry.name, manifest.sealed)
    root = seal_root(key, place, manifests)
    store.put(root.entry.name, root.sealed)
    manifests.clear()

    started = time.perf_counter()
    copy = SealedCopy.open(store, key, *place, root.digest)
    opened = time.perf_counter()
    if copy.read(wanted) != DATA:
        raise RuntimeError("another object was read")
    read = time.perf_counter()
    tell(seconds=read - started, open_s=opened - started, first_read_ms=1000 * (read - opened))


def _path(item: int, number: int) -> str:
    return f"series/i{item:07d}/0/c/{number:06d}"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
