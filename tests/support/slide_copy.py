"""Slides made into a copy in this process: the parsers' operations called directly, objects in a dictionary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zarr
from pydantic import TypeAdapter
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from imaging.deid import profiles
from imaging.deid.keyed import DeidKey
from imaging.staging.admission import PixelPolicy, Rules
from imaging.staging.items import Bench
from imaging.staging.parsing import operations
from imaging.staging.pathology.headers import SlideHeader, WsmHeader
from imaging.staging.pathology.slide_admission import Pathology
from imaging.staging.refusals import ItemRefused, Refused
from imaging.staging.selection import Selection

KEY = DeidKey(b"d" * 32)
_HEADER: TypeAdapter[Any] = TypeAdapter(SlideHeader | WsmHeader)


class DirectReader:
    """``ItemReader`` without its sandbox."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def digest(self, number: int) -> str:
        return f"{number:064x}"

    def ask(self, number: int, operation: str, **arguments: Any) -> Iterator[tuple[bytes, bytearray]]:
        request = json.loads(json.dumps({"op": operation, **arguments}))
        with self.paths[number - 1].open("rb") as file:
            try:
                for header, blob in operations.answer(request, file):
                    yield header, bytearray(blob)
            except operations.Unreadable as unreadable:
                raise Refused(unreadable.code) from None


@dataclass
class Made:
    """``group``: of each slide, by path.  ``rows``: of the index.  ``objects``: path → plaintext."""

    objects: dict[str, bytes] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    store: MemoryStore = field(default_factory=MemoryStore)

    def group(self, place: int = 0) -> Any:
        return zarr.open_group(self.store, path=self.rows[place]["item"], mode="r")

    def level(self, level: int = 0, place: int = 0) -> Any:
        return self.group(place)[str(level)][...]

    def ours(self, place: int = 0) -> dict[str, Any]:
        return dict(self.group(place).attrs.asdict()["hdrs-hpc"])

    def everything(self) -> bytes:
        """All plaintext of the copy."""
        return b"".join(self.objects.values())


def make(
    paths: Sequence[Path],
    *,
    opt_out: Sequence[str] = (),
    profile: str = "slide-basic@2",
    pixels: PixelPolicy | None = None,
) -> Made:
    """Headers, judging, parts, metadata, as the engine has it done."""
    reader = DirectReader(paths)
    made = Made()
    rules = Rules(
        KEY, profiles.load(profile), Selection.parse({}), frozenset(opt_out), "", pixels or PixelPolicy()
    )
    kind = Pathology(rules)
    headers: dict[int, Any] = {}
    for number in range(1, len(paths) + 1):
        try:
            ((raw, _),) = reader.ask(number, "header", keywords=sorted(kind.keywords))
            headers[number] = _HEADER.validate_json(raw)
        except Refused as refused:
            made.refused[number] = refused.code
    judged = kind.judge(headers, [str(path) for path in paths])
    made.refused |= judged.refused
    with ThreadPoolExecutor(1) as threads:
        bench = Bench(reader, threads)  # type: ignore[arg-type]
        for task in judged.tasks:
            told: list[dict[str, Any]] = []
            done: dict[str, bytes] = {}
            try:
                for parts in task.steps(told):
                    for part in parts:
                        one = part.make(bench, {path: done[path] for path in part.inputs})
                        done |= {
                            path: bytes(data) for path, data in {part.path: one.data, **one.more}.items()
                        }
                        told.append(one.told)
            except ItemRefused as refused:
                made.refused[refused.number] = refused.code
                continue
            task.begin(made.store, told)
            for path, data in done.items():
                made.store._store_dict[path] = Buffer.from_bytes(data)
            made.rows.append(dict(task.row(told)))
            made.notes += task.notes(told)
    made.objects = {path: data.to_bytes() for path, data in made.store._store_dict.items()}
    return made
