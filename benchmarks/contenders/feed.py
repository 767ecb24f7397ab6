"""A loader of slide patches, a ViT-L/16 forward pass at 224², or both.

``WHAT sealed|plain SECONDS WORKERS DEVICE SOURCE [SECRET]`` with WHAT one of ``loader``, ``model``, ``both``.

``plain`` is the same loader on the same bytes as plain files.  Weights are random: they cost what trained ones cost.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore

from benchmarks.contenders import tell

SIZE, PATCH, WIDTH, LAYERS, HEADS, BATCH = 224, 16, 1024, 24, 16, 256
"""Of ViT-L/16 (Dosovitskiy et al. 2021, table 1); ``BATCH`` images at once."""
_WARM_UP = 4


@dataclass(frozen=True, slots=True)
class PlainFolder:
    """Plain files of a copy as what :class:`imaging.reading.staged.StagedCopy` reads from."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def store(self) -> Store:
        return LocalStore(self.folder, read_only=True)

    def read(self, path: str) -> bytes | None:
        file = self.folder / path
        return file.read_bytes() if file.is_file() else None

    def children(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / folder).iterdir())


def main(
    what: str, kind: str, seconds: float, workers: int, device: str, source: Path, secret: Path | None
) -> None:
    torch: Any = import_module("torch")
    with contextlib.ExitStack() as stack:
        batches = stack.enter_context(_loaded(kind, workers, source, secret)) if what != "model" else None
        model = _model(torch).to(device).eval() if what != "loader" else None
        given = torch.zeros((BATCH, 3, SIZE, SIZE), dtype=torch.uint8)

        def step() -> int:
            images = given if batches is None else next(batches)
            if model is None:
                return len(images)
            moved = images.to(device, non_blocking=True)
            with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16):
                model(moved.to(torch.float32) / 255)
            return len(images)

        def settle() -> None:
            if device == "cuda":
                torch.cuda.synchronize()

        for _ in range(_WARM_UP):
            step()
        settle()
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            count += step()
        settle()
        tell(patches_per_s=count / (time.perf_counter() - begun))


@contextlib.contextmanager
def _loaded(kind: str, workers: int, source: Path, secret: Path | None) -> Iterator[Iterator[Any]]:
    """Batches (n, c, y, x) of uint8 without end."""
    from imaging.reading import open_staged
    from imaging.reading.staged import StagedCopy

    with contextlib.ExitStack() as stack:
        if kind == "sealed":
            assert secret is not None
            from benchmarks.contenders.job import job

            stack.enter_context(job({"slide": source}, secret))
            copy = open_staged("slide")
        else:
            copy = StagedCopy(PlainFolder(source))
        data: Any = import_module("imaging.reading.torch_data")
        loading: Any = import_module("imaging.reading.torch_loading")
        patches = data.SlidePatches(copy, size=SIZE)
        loader = loading.ResumableLoader(
            patches,
            BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
            **({"multiprocessing_context": "forkserver"} if workers else {}),
        )
        yield _endless(loader)


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        for batch in loader:
            yield batch["image"]


def _model(torch: Any) -> Any:
    """Images (n, 3, 224, 224) → class tokens (n, 1024)."""
    nn = torch.nn
    tokens = (SIZE // PATCH) ** 2

    class Vit(nn.Module):  # type: ignore[misc,name-defined]  # torch is unknown to the type checker
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
            self.first = nn.Parameter(torch.zeros(1, 1, WIDTH))
            self.places = nn.Parameter(torch.randn(1, tokens + 1, WIDTH) * 0.02)
            layer = nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, activation="gelu", batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(
                layer, LAYERS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False
            )

        def forward(self, images: Any) -> Any:
            found = self.embed(images).flatten(2).transpose(1, 2)
            found = torch.cat([self.first.expand(len(found), -1, -1), found], dim=1) + self.places
            return self.layers(found)[:, 0]

    return Vit()


if __name__ == "__main__":
    _what, _kind, _seconds, _workers, _device, _source, *_secret = sys.argv[1:]
    main(
        _what,
        _kind,
        float(_seconds),
        int(_workers),
        _device,
        Path(_source),
        Path(_secret[0]) if _secret else None,
    )
