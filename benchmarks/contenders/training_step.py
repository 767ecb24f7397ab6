"""Steps of a masked autoencoder's training, read through the loader: the median of their rate.

``slides|volumes sealed|plain SECONDS SOURCE [SECRET]``; ``plain`` is the same loader on the same bytes as plain files.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.contenders import tell
from benchmarks.contenders.feed import PlainFolder
from imaging.reading import open_staged
from imaging.reading.staged import StagedCopy

_BATCH = {"slides": 4, "volumes": 2}
_WARM_UP = 2
_LEAST = 5


def main(of: str, kind: str, seconds: float, source: Path, secret: Path | None) -> None:
    torch: Any = import_module("torch")
    models: Any = import_module("hdrs_hpc.workloads.training.models")
    patches: Any = import_module("hdrs_hpc.workloads.training.patches")
    loading: Any = import_module("imaging.reading.torch_loading")
    parameters: Any = import_module("hdrs_hpc.workloads.training.parameters")
    told = parameters.Parameters(
        of=of, size=224 if of == "slides" else 96, tissue=0.0, window=(-1000.0, 400.0)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with contextlib.ExitStack() as stack:
        if kind == "sealed":
            assert secret is not None
            from benchmarks.contenders.job import job

            stack.enter_context(job({"copy": source}, secret))
            copy = open_staged("copy")
        else:
            copy = StagedCopy(PlainFolder(source))
        torch.manual_seed(0)
        model = models.masked_autoencoder(told, 0.75).to(device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
        data = patches.patches(copy, patches.rows(copy, told), told)
        batches = _endless(loading.ResumableLoader(data, _BATCH[of], num_workers=0))
        taken: list[float] = []
        begun = time.perf_counter()
        while len(taken) < _WARM_UP + _LEAST or time.perf_counter() - begun < seconds:
            before = time.perf_counter()
            predicted, _ = model(patches.scaled(next(batches)["image"], told, device))
            loss = predicted.square().mean()  # costs what the true loss costs
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            float(loss.detach())  # waits for the device
            taken.append(time.perf_counter() - before)
        tell(steps_per_s=1 / statistics.median(taken[_WARM_UP:]))


def _endless(loader: Any) -> Any:
    while True:
        yield from loader


if __name__ == "__main__":
    _of, _kind, _seconds, _source, *_secret = sys.argv[1:]
    main(_of, _kind, float(_seconds), Path(_source), Path(_secret[0]) if _secret else None)
