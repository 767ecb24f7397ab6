"""Batches of the data sets of :mod:`imaging.reading.torch_data`: a loader that can go on in mid-epoch, and a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from typing import Any

import numpy as np
import torch  # not among this project's own dependencies: gigabytes
from numpy.typing import NDArray
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    default_collate,
    get_worker_info,
)

from imaging.reading.order import DEFAULT_MIXED, part_of, run_order
from imaging.reading.sampler import ResumableSampler
from imaging.reading.torch_data import PatchDataset, Sample
from imaging.reading.windows import Window

_READ_AT_ONCE = 64
_MIXED = 3  # what a random stream is for, beside those of imaging/reading/order.py


class ResumableLoader(DataLoader):  # type: ignore[misc]  # torch is unknown to the type checker
    """A DataLoader of a map-style data set with a :class:`ResumableSampler`, which it tells of each batch it hands out.

    Each ``for`` goes through an epoch, or through what is left of it: after a ``break``, and after
    ``load_state_dict``.  A state taken in the body of the loop counts the batch that the body has.  Batches that
    workers had fetched ahead and nobody got are fetched again.

    A data set with ``set_epoch`` (random places) and ``plan`` (which samples lie in one shard) is told and asked.
    Rank and world default to those of ``torch.distributed``.  All other ``options`` are DataLoader's own.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = True,
        mixed: int = DEFAULT_MIXED,
        **options: Any,
    ) -> None:
        rank, world_size = _place_in_group(rank, world_size)
        plan = getattr(dataset, "plan", None)
        sampler = ResumableSampler(
            len(dataset),
            seed=seed,
            rank=rank,
            world_size=world_size,
            batch_size=batch_size,
            drop_last=drop_last,
            groups=None if plan is None else plan.groups,
            mixed=mixed,
        )
        super().__init__(dataset, batch_size=batch_size, sampler=sampler, **options)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.sampler.begin()
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        for batch in super().__iter__():
            self.sampler.count_batch()
            yield batch

    def state_dict(self) -> dict[str, int]:
        """``epoch``, ``sample_in_epoch``, ``seed``: the same on every rank."""
        state: dict[str, int] = self.sampler.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """The next ``for`` goes on there.  Raises ValueError for a place that there is not."""
        self.sampler.load_state_dict(state)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """For ``DataLoader(…, collate_fn=collate)``: what torch's own gives, but images whose channels are last in memory
    stay so (``torch.channels_last``), which is ten times faster than to reorder them and what convolutions like.
    """
    rest = default_collate([{key: value for key, value in one.items() if key != "image"} for one in samples])
    images = [one["image"] for one in samples]
    if not all(image.ndim == 3 and image.stride(0) == 1 < image.shape[0] for image in images):
        return {"image": default_collate(images), **rest}
    batch = default_collate([image.permute(1, 2, 0) for image in images])
    return {"image": batch.permute(0, 3, 1, 2), **rest}


class Streamed(IterableDataset):  # type: ignore[misc]  # torch is unknown to the type checker
    """A data set as a stream, which decodes each chunk about once an epoch: the fastest way to read patches.

    Blocks of 64 neighbouring windows come in random order, each worker's its own, and are read at a time; then the
    *pixels* of those windows are mixed in a buffer of ``buffer`` windows, or as many as ``memory_bytes`` hold if that
    is less (a worker).  With a sampler, windows are mixed before they are read, and a chunk is decoded for each window
    that touches it, some four times.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        *,
        seed: int = 0,
        buffer: int = DEFAULT_MIXED,
        memory_bytes: int = 256 << 20,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self._seed = seed
        self._buffer = buffer
        self._memory_bytes = memory_bytes
        self._rank, self._world = _place_in_group(rank, world)

    def set_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset) // self._world

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        share = (0, 1) if worker is None else (worker.id, worker.num_workers)
        part = part_of(len(self.dataset), self._rank, self._world, *share)
        order = run_order(self.dataset.plan.blocks, self._seed, self.dataset.epoch, part)
        draw = np.random.default_rng([_MIXED, self._seed, self.dataset.epoch, part.start])
        held: list[tuple[Window, NDArray[Any]]] = []
        for numbers in batched(order, _READ_AT_ONCE, strict=False):
            for window, pixels in self.dataset.read(numbers):
                # A copy, for one row would keep the memory of all; in the order in which it lies there.
                fresh = (window, pixels.copy(order="K"))
                if len(held) < max(1, min(self._buffer, self._memory_bytes // max(1, pixels.nbytes))):
                    held.append(fresh)
                    continue
                place = int(draw.integers(len(held)))
                yield self.dataset.sample(*held[place])
                held[place] = fresh
        for place in draw.permutation(len(held)).tolist():
            yield self.dataset.sample(*held[place])


def _place_in_group(rank: int | None, world: int | None) -> tuple[int, int]:
    group = torch.distributed
    if rank is not None and world is not None:
        return rank, world
    if group.is_available() and group.is_initialized():
        return group.get_rank(), group.get_world_size()
    return 0, 1
