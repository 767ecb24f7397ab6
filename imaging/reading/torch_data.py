"""PyTorch data sets of patches: out of volumes, out of slides; at random places or on a grid.  Map-style.

Safe in workers, forked and spawned: what travels is a reference to the copy and the plan of windows, and each worker
opens its own connection.  Random places depend on seed, epoch and window only, never on how many workers there are.

A sample is a dictionary that the default collate function takes: ``image`` (tensor), ``item``, ``patient`` (a
pseudonym, ``""`` where unknown), and ``level t z y x``, the window's first voxel in the array of that level.  Where the
patch lies: of volumes ``spacing`` (z, y, x in mm) and ``affine`` ((4, 4), its indices z, y, x → LPS mm), of slides
``mpp`` (y, x in µm); NaN where the source states none.  ``label`` (a class number) where labels are given.

Batches: :mod:`imaging.reading.torch_loading`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import numpy as np
import torch  # not among this project's own dependencies: gigabytes
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from torch.utils.data import get_worker_info

from imaging import layout
from imaging.reading.geometry import Geometry, geometry_of
from imaging.reading.labels import Labels
from imaging.reading.multiscale import Multiscale
from imaging.reading.patches import BatchedPatchReader, Items, PatchReader, chosen
from imaging.reading.staged import StagedCopy, Values
from imaging.reading.tiles import cores
from imaging.reading.tissue import tissue_mask, windows_with_tissue
from imaging.reading.windows import PatchImage, PatchPlan, Window

type Sample = dict[str, Any]
type Positions = Literal["random", "grid"]
"""``random``: one window around each place of the grid, elsewhere each epoch.  ``grid``: all of it, in order."""

_SAME = 0.02
"""Relative difference of pixel sizes below which no pixel is resampled."""


class PatchDataset:
    """Map-style: ``dataset[i]``, and ``dataset.__getitems__([i, …])``, which a DataLoader uses to read a batch at once.

    ``reader`` is where another way to read windows plugs in.
    """

    def __init__(
        self,
        plan: PatchPlan,
        reader: PatchReader,
        transform: Callable[[Sample], Sample] | None,
        labels: Labels | None = None,
    ) -> None:
        self.plan = plan
        self.reader = reader
        self.labels = labels
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
        label = {} if self.labels is None else {"label": self.labels.numbers[image.item]}
        return {
            "image": self._tensor(pixels),
            "item": image.item,
            "patient": image.patient,
            "level": image.level,
            "t": window.t,
            "z": window.z,
            "y": window.y,
            "x": window.x,
            **self._place(window),
            **label,
        }

    def _place(self, window: Window) -> Sample:
        """What tells where a patch lies and how large its pixels are."""
        return {}

    def _tensor(self, pixels: NDArray[Any]) -> Any:
        return torch.from_numpy(pixels)


class VolumePatches(PatchDataset):
    """(C, Z, Y, X) patches of volumes, float32 in the unit they measure or, with ``values="stored"``, raw.

    ``kinds`` (the index's column): which series are taken.  Others among rows, and of the whole copy, are left out:
    the labels, doses, maps, cines and single images of a cohort are no volumes.  Ids of another kind raise
    ValueError.  With ``labels`` items that have none are left out.

    ``patch`` is (z, y, x) in voxels, ``stride`` how far the grid's windows lie apart (a patch's size).  ``spacing``
    (z, y, x in mm): the size of the patch's voxels, to which it is resampled: averaged along axes that become
    coarser, linear along others.  None: as stored.  Slices that are not evenly spaced are taken for even.

    A 4-D series gives windows of each of its time points.  ``fill`` stands where a patch is larger than its volume
    (air is -1024 in Hounsfield units).
    """

    def __init__(
        self,
        copy: StagedCopy,
        items: Items = None,
        patch: tuple[int, int, int] = (32, 128, 128),
        *,
        stride: tuple[int, int, int] | None = None,
        spacing: tuple[float, float, float] | None = None,
        positions: Positions = "random",
        values: Values = "physical",
        kinds: Collection[str] = ("volume",),
        fill: float = 0,
        seed: int = 0,
        labels: Labels | None = None,
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        if spacing is not None and values == "stored":
            raise ValueError("stored values stand for something only at their own spacing")
        images: list[PatchImage] = []
        self._spacings: list[NDArray[np.float64]] = []
        self._ratios: list[NDArray[np.float64]] = []
        self._geometries: list[Geometry | None] = []
        for item, patient in _labelled(chosen(copy, items, layout.SERIES, kinds), labels):
            array, known = copy.volume(item), copy.multiscale(item)
            own = _spacing_mm(known)
            # A voxel of the patch, in voxels of the array; and how many of those make the patch.
            ratio = np.ones(3) if spacing is None else np.asarray(spacing, np.float64) / own
            if not np.isfinite(ratio).all():
                raise ValueError(
                    "a series states no size of its voxels, so spacing means nothing: leave it out"
                )
            ratio[np.abs(ratio - 1) <= _SAME] = 1
            size = _scaled(patch, ratio)
            step = None if stride is None else _scaled(stride, ratio)
            shard = tuple(array.shards or array.chunks)
            axes = "".join(known.axes)
            image = PatchImage(item, patient, 0, axes, tuple(array.shape), shard, size, stride=step)
            images.append(image)
            self._ratios.append(np.asarray(size) / np.asarray(patch))
            self._spacings.append(own * self._ratios[-1])
            self._geometries.append(geometry_of(known.ours))
        self._patch = patch
        plan = PatchPlan(images, moved=positions == "random", seed=seed)
        super().__init__(plan, BatchedPatchReader(copy, images, values, fill), transform, labels)

    def _tensor(self, pixels: NDArray[Any]) -> Any:
        tensor = super()._tensor(pixels)
        if tuple(tensor.shape[1:]) == self._patch:
            return tensor
        coarser = [min(size, wanted) for size, wanted in zip(tensor.shape[1:], self._patch, strict=True)]
        averaged = interpolate(tensor[None], size=coarser, mode="area")
        return interpolate(averaged, size=self._patch, mode="trilinear")[0]

    def _place(self, window: Window) -> Sample:
        ratio, geometry = self._ratios[window.image], self._geometries[window.image]
        affine = np.full((4, 4), np.nan)
        if geometry is not None:
            # The centre of the patch's first voxel is not that of the array's, where sizes differ.
            first = np.asarray([window.z, window.y, window.x]) + (ratio - 1) / 2
            affine = geometry.affine_zyx.copy()
            affine[:3, :3] *= ratio
            affine[:3, 3] = geometry.world(first)
        return {
            "spacing": torch.from_numpy(self._spacings[window.image].copy()),
            "affine": torch.from_numpy(affine),
        }


class SlidePatches(PatchDataset):
    """(C, size, size) patches of slides, as stored (uint8 of RGB).

    Either ``level`` (0 is full size), or ``mpp``, the micrometres a pixel of the patch shall measure: then it is read
    from the nearest finer level and, if need be, made smaller (antialiased bilinear).  Several of either give the
    patches of all.  ``stride``: how far the grid's windows lie apart, in pixels of the patch (its size).  ``tissue``:
    the least share of a window that is tissue, 0 for all windows.  Of a slide with z-planes the middle one is taken.
    With ``labels`` slides that have none are left out.

    Raises ValueError for an ``mpp`` on a slide that states no pixel size, or finer than it was scanned.
    """

    def __init__(
        self,
        copy: StagedCopy,
        items: Items = None,
        size: int = 224,
        *,
        level: int | Sequence[int] = 0,
        mpp: float | Sequence[float] | None = None,
        stride: int | None = None,
        tissue: float = 0.0,
        positions: Positions = "random",
        fill: float = 255,
        seed: int = 0,
        labels: Labels | None = None,
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        images: list[PatchImage] = []
        kept: list[NDArray[np.bool_] | None] = []
        self._mpp: list[NDArray[np.float64]] = []
        for item, patient in _labelled(chosen(copy, items, layout.SLIDES), labels):
            known = copy.multiscale(item)
            found = [(number, size) for number in _several(level)]
            if mpp is not None:
                found = [_level_for(known, wanted, size) for wanted in _several(mpp)]
            mask = tissue_mask(copy, item) if tissue else None
            axes = "".join(known.axes)
            for number, extent in found:
                array = copy.slide(item, number)
                plane = array.shape[axes.index("z")] // 2 if "z" in axes else None
                shard = tuple(array.shards or array.chunks)
                step = extent if stride is None else max(1, round(stride * extent / size))
                image = PatchImage(
                    item,
                    patient,
                    number,
                    axes,
                    tuple(array.shape),
                    shard,
                    (1, extent, extent),
                    plane,
                    (1, step, step),
                )
                images.append(image)
                kept.append(None if mask is None else windows_with_tissue(image, mask, tissue))
                scale = [known.scale(axis, number) for axis in "yx"]
                stated = known.unit("x") == "micrometer"
                self._mpp.append(np.asarray(scale if stated else [np.nan, np.nan]) * (extent / size))
        self._size = size
        plan = PatchPlan(images, kept, moved=positions == "random", seed=seed)
        super().__init__(plan, BatchedPatchReader(copy, images, "stored", fill), transform, labels)

    def _tensor(self, pixels: NDArray[Any]) -> Any:
        tensor = super()._tensor(pixels[:, 0])
        if tensor.shape[-1] == self._size:
            return tensor
        smaller = interpolate(
            tensor[None].to(torch.float32), size=(self._size, self._size), mode="bilinear", antialias=True
        )[0]
        return smaller.to(tensor.dtype) if tensor.is_floating_point() else smaller.round().to(tensor.dtype)

    def _place(self, window: Window) -> Sample:
        return {"mpp": torch.from_numpy(self._mpp[window.image].copy())}


def _labelled(items: Sequence[tuple[str, str]], labels: Labels | None) -> list[tuple[str, str]]:
    return [pair for pair in items if labels is None or pair[0] in labels.numbers]


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) else [value]


def _spacing_mm(known: Multiscale) -> NDArray[np.float64]:
    """(z, y, x); NaN along an axis whose unit is no length in space."""
    return np.asarray([known.scale(a) if known.unit(a) == "millimeter" else np.nan for a in "zyx"])


def _scaled(sizes: Sequence[int], ratio: NDArray[np.float64]) -> tuple[int, int, int]:
    z, y, x = (max(1, round(size * float(part))) for size, part in zip(sizes, ratio, strict=True))
    return z, y, x


def _level_for(image: Multiscale, mpp: float, size: int) -> tuple[int, int]:
    """The coarsest level that is at least as fine as ``mpp``, and how many of its pixels make ``size``."""
    if image.unit("x") != "micrometer":
        raise ValueError("the slide states no pixel size, so mpp means nothing: choose a level")
    sizes = [image.scale("x", number) for number in range(len(image.levels))]
    fine = [number for number, found in enumerate(sizes) if found <= mpp * (1 + _SAME)]
    if not fine:
        raise ValueError(f"mpp {mpp} is finer than the {sizes[0]} that the slide was scanned at")
    number = max(fine, key=lambda each: sizes[each])
    same = abs(sizes[number] / mpp - 1) <= _SAME
    return number, size if same else round(size * mpp / sizes[number])
