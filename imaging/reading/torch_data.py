"""PyTorch data sets of patches: out of volumes, out of slides; at random places or on a grid; map-style or a stream.

Safe in workers, forked and spawned: what travels is a reference to the copy and the plan of windows, and each worker
opens its own connection.  Random places depend on seed, epoch and window only, never on how many workers there are.

A sample is a dictionary that the default collate function takes: ``image`` (tensor), ``item``, ``patient`` (a
pseudonym, ``""`` where unknown), and ``level t z y x``, the window's first voxel in the array of that level.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import batched
from typing import Any, Literal

import numpy as np
import torch  # type: ignore[import-not-found]  # not among this project's own dependencies: gigabytes
from numpy.typing import NDArray
from torch.nn.functional import interpolate  # type: ignore[import-not-found]
from torch.utils.data import (  # type: ignore[import-not-found]
    IterableDataset,
    default_collate,
    get_worker_info,
)

from imaging import layout
from imaging.reading.order import DEFAULT_BUFFER, epoch_order, part_of
from imaging.reading.patches import BatchedPatchReader, Items, PatchReader, chosen
from imaging.reading.staged import StagedCopy, Values
from imaging.reading.tiles import cores
from imaging.reading.tissue import tissue_mask, windows_with_tissue
from imaging.reading.windows import PatchImage, PatchPlan, Window

type Sample = dict[str, Any]
type Positions = Literal["random", "grid"]
"""``random``: one window around each place of the grid, elsewhere each epoch.  ``grid``: all of it, in order."""

_READ_AT_ONCE = 64
_MIXED = 3  # what a random stream is for, beside those of imaging/reading/order.py
_SAME_MPP = 0.02
"""Relative difference of pixel sizes below which no pixel is resampled."""


class PatchDataset:
    """Map-style: ``dataset[i]``, and ``dataset.__getitems__([i, …])``, which a DataLoader uses to read a batch at once.

    ``reader`` is where another way to read windows plugs in.
    """

    def __init__(
        self, plan: PatchPlan, reader: PatchReader, transform: Callable[[Sample], Sample] | None
    ) -> None:
        self.plan = plan
        self.reader = reader
        self._transform = transform
        # In shared memory: workers that outlive an epoch see it too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Move random windows to this epoch's places; call it before each epoch, on every rank."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> Sample:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Sample]:
        return [self.sample(*pair) for pair in self.read(numbers)]

    def read(self, numbers: Sequence[int]) -> list[tuple[Window, NDArray[Any]]]:
        """Windows and what :class:`PatchReader` gives for them, read together."""
        windows = self.plan.windows(numbers, self.epoch)
        worker = get_worker_info()
        # Workers share the machine; each would else decode on as many threads as it has cores.
        threads = None if worker is None else max(1, cores() // worker.num_workers)
        return list(zip(windows, self.reader.read(windows, threads=threads), strict=True))

    def sample(self, window: Window, pixels: NDArray[Any]) -> Sample:
        """What ``dataset[i]`` gives of a window that was read."""
        sample = self._sample(window, pixels)
        return sample if self._transform is None else self._transform(sample)

    def _sample(self, window: Window, pixels: NDArray[Any]) -> Sample:
        image = self.plan.images[window.image]
        return {
            "image": self._tensor(pixels),
            "item": image.item,
            "patient": image.patient,
            "level": image.level,
            "t": window.t,
            "z": window.z,
            "y": window.y,
            "x": window.x,
        }

    def _tensor(self, pixels: NDArray[Any]) -> Any:
        return torch.from_numpy(pixels)


class VolumePatches(PatchDataset):
    """(C, Z, Y, X) patches of volumes, float32 in the unit they measure or, with ``values="stored"``, raw.

    ``kinds`` (the index's column): which series are taken.  Others among rows, and of the whole copy, are left out:
    the labels, doses, maps, cines and single images of a cohort are no volumes.  Ids of another kind raise
    ValueError.

    ``patch`` is (z, y, x) in voxels.  A 4-D series gives windows of each of its time points.  ``fill`` stands where a
    patch is larger than its volume (air is -1024 in Hounsfield units).
    """

    def __init__(
        self,
        copy: StagedCopy,
        items: Items = None,
        patch: tuple[int, int, int] = (32, 128, 128),
        *,
        positions: Positions = "random",
        values: Values = "physical",
        kinds: Collection[str] = ("volume",),
        fill: float = 0,
        seed: int = 0,
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        images = []
        for item, patient in chosen(copy, items, layout.SERIES, kinds):
            array = copy.volume(item)
            axes = "".join(copy.multiscale(item).axes)
            shard = tuple(array.shards or array.chunks)
            images.append(PatchImage(item, patient, 0, axes, tuple(array.shape), shard, patch))
        plan = PatchPlan(images, moved=positions == "random", seed=seed)
        super().__init__(plan, BatchedPatchReader(copy, images, values, fill), transform)


class SlidePatches(PatchDataset):
    """(C, size, size) patches of slides, as stored (uint8 of RGB).

    Either ``level`` (0 is full size), or ``mpp``, the micrometres a pixel of the patch shall measure: then it is read
    from the nearest finer level and, if need be, made smaller (antialiased bilinear).  ``tissue``: the least share of
    a window that is tissue, 0 for all windows.  Of a slide with z-planes the middle one is taken.

    Raises ValueError for an ``mpp`` on a slide that states no pixel size, or finer than it was scanned.
    """

    def __init__(
        self,
        copy: StagedCopy,
        items: Items = None,
        size: int = 224,
        *,
        level: int = 0,
        mpp: float | None = None,
        tissue: float = 0.0,
        positions: Positions = "random",
        fill: float = 255,
        seed: int = 0,
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        images: list[PatchImage] = []
        kept: list[NDArray[np.bool_] | None] = []
        for item, patient in chosen(copy, items, layout.SLIDES):
            number, extent = (level, size) if mpp is None else _level_for(copy, item, mpp, size)
            array = copy.slide(item, number)
            axes = "".join(copy.multiscale(item).axes)
            plane = array.shape[axes.index("z")] // 2 if "z" in axes else None
            shard = tuple(array.shards or array.chunks)
            image = PatchImage(
                item, patient, number, axes, tuple(array.shape), shard, (1, extent, extent), plane
            )
            images.append(image)
            kept.append(windows_with_tissue(image, tissue_mask(copy, item), tissue) if tissue else None)
        self._size = size
        plan = PatchPlan(images, kept, moved=positions == "random", seed=seed)
        super().__init__(plan, BatchedPatchReader(copy, images, "stored", fill), transform)

    def _tensor(self, pixels: NDArray[Any]) -> Any:
        tensor = super()._tensor(pixels[:, 0])
        if tensor.shape[-1] == self._size:
            return tensor
        smaller = interpolate(
            tensor[None].to(torch.float32), size=(self._size, self._size), mode="bilinear", antialias=True
        )[0]
        return smaller.to(tensor.dtype) if tensor.is_floating_point() else smaller.round().to(tensor.dtype)


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


class ShardSampler:
    """Numbers of a data set's windows, one epoch of this rank, random yet shard by shard (:mod:`…reading.order`).

    For ``DataLoader(dataset, sampler=ShardSampler(dataset), …)``.  Rank and world default to those of
    ``torch.distributed``; each rank gets equally many windows.  A smaller ``buffer`` mixes less and reads more
    locally.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        *,
        seed: int = 0,
        buffer: int = DEFAULT_BUFFER,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        self._dataset = dataset
        self._seed = seed
        self._buffer = buffer
        self._rank, self._world = _place_in_group(rank, world)

    def __len__(self) -> int:
        return len(self._dataset) // self._world

    def __iter__(self) -> Iterator[int]:
        part = part_of(len(self._dataset), self._rank, self._world)
        return epoch_order(self._dataset.plan.groups, self._seed, self._dataset.epoch, part, self._buffer)


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
        buffer: int = DEFAULT_BUFFER,
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
        order = epoch_order(self.dataset.plan.blocks, self._seed, self.dataset.epoch, part, buffer=1)
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


def _level_for(copy: StagedCopy, item: str, mpp: float, size: int) -> tuple[int, int]:
    """The coarsest level that is at least as fine as ``mpp``, and how many of its pixels make ``size``."""
    image = copy.multiscale(item)
    if image.unit("x") != "micrometer":
        raise ValueError("the slide states no pixel size, so mpp means nothing: choose a level")
    sizes = [image.scale("x", number) for number in range(len(image.levels))]
    fine = [number for number, found in enumerate(sizes) if found <= mpp * (1 + _SAME_MPP)]
    if not fine:
        raise ValueError(f"mpp {mpp} is finer than the {sizes[0]} that the slide was scanned at")
    number = max(fine, key=lambda each: sizes[each])
    same = abs(sizes[number] / mpp - 1) <= _SAME_MPP
    return number, size if same else round(size * mpp / sizes[number])


def _place_in_group(rank: int | None, world: int | None) -> tuple[int, int]:
    group = torch.distributed
    if rank is not None and world is not None:
        return rank, world
    if group.is_available() and group.is_initialized():
        return group.get_rank(), group.get_world_size()
    return 0, 1
