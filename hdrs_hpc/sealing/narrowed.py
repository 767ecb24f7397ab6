"""A narrower manifest over a sealed copy: fewer items, and some objects replaced.

What the narrowed manifest does not name does not exist for whoever opens the copy by it.  It is sealed under the
copy's key like the copy's own, and told apart by its digest alone.  Objects that are kept are not written again; new
ones lie in a place of their own (:mod:`hdrs_hpc.sealing.objects.layered` reads both).
"""

from __future__ import annotations

from collections.abc import Iterable

from hdrs_hpc.core.ids import new_secret_name
from hdrs_hpc.sealing.cipher import Bytes, Sealer
from hdrs_hpc.sealing.manifest import Entry, SealedManifest, SealedPlace, open_root, seal_item, seal_root
from hdrs_hpc.sealing.objects import ObjectReads, ObjectStore
from hdrs_hpc.sealing.place import Role, check_path, item_of


class NarrowedCopy:
    """The copy with this manifest, made narrower: :meth:`keep`, :meth:`put`, then :meth:`seal`."""

    def __init__(
        self,
        objects: ObjectReads,
        added: ObjectStore,
        key: bytes,
        role: Role,
        project: str,
        holder: str,
        manifest_digest: str,
    ) -> None:
        """``added``: where new objects go.  Raises what :func:`open_root` does."""
        self._added, self._key = added, key
        self._place = SealedPlace(role, project, holder)
        self._whole = open_root(objects, key, self._place, manifest_digest)
        self._kept: dict[str, Entry] = {}
        self._new: dict[str, dict[str, Entry]] = {}

    def keep(self, items: Iterable[str]) -> None:
        """Take these items over as they are.  KeyError for one that the copy does not have."""
        self._kept |= {item: self._whole[item] for item in items}

    def put(self, path: str, data: Bytes) -> None:
        """Write an object anew; of its item only what was put is there."""
        check_path(path)
        sealer = Sealer(self._key, self._place.context(path))
        name = new_secret_name("o")
        self._added.put(name, sealer.stream([data]))
        entry = Entry(path, name, memoryview(data).nbytes, sealer.header)
        self._new.setdefault(item_of(path), {})[path] = entry

    def seal(self) -> SealedManifest:
        """Write the manifests of what was put, then the root; its digest is what opens the narrowed copy."""
        items = dict(self._kept)
        for item, entries in self._new.items():
            items[item] = self._put_manifest(seal_item(self._key, self._place, item, list(entries.values())))
        root = seal_root(self._key, self._place, items.values())
        self._put_manifest(root)
        return root

    def _put_manifest(self, manifest: SealedManifest) -> Entry:
        self._added.put(manifest.entry.name, manifest.sealed)
        return manifest.entry
