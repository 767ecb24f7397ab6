"""Sealed objects that lie in several places, to be read as if in one."""

from __future__ import annotations

from hdrs_hpc.sealing.objects import ObjectMissingError, ObjectReads


class LayeredReads:
    """Reads an object from the first of ``stores`` that has it; writes nothing.

    Which one that is makes no difference to a reader: an object is opened with the header that its manifest names.
    """

    def __init__(self, *stores: ObjectReads) -> None:
        self._stores = stores

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        for store in self._stores[:-1]:
            try:
                return store.get(name, start, length)
            except ObjectMissingError:
                continue
        return self._stores[-1].get(name, start, length)

    def get_into(self, name: str, start: int, view: memoryview) -> int:
        for store in self._stores[:-1]:
            try:
                return store.get_into(name, start, view)
            except ObjectMissingError:
                continue
        return self._stores[-1].get_into(name, start, view)

    def size(self, name: str) -> int:
        for store in self._stores[:-1]:
            try:
                return store.size(name)
            except ObjectMissingError:
                continue
        return self._stores[-1].size(name)
