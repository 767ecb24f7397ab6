"""One order for all ranks of a training, which can be taken up again in the middle of an epoch.

The order of an epoch is a permutation made from seed and epoch alone.  Rank ``r`` of ``w`` takes every ``w``-th of it
from the ``r``-th on, so the batches of one step, of all ranks together, are the next ``w`` × ``batch_size`` of that
order: 1, 2 and 4 ranks with the same number of samples a step see the same samples in the same steps.

What is counted is what the training loop got, not what was asked for: a DataLoader's workers fetch batches ahead, and a
sampler that counted what it gave out would lose those when training goes on elsewhere.  So somebody who sees batches
arrive calls :meth:`ResumableSampler.count_batch`; :class:`imaging.reading.torch_loading.ResumableLoader` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from imaging.reading.order import DEFAULT_MIXED, mixed_order


class ResumableSampler:
    """Numbers below ``dataset_size`` for ``DataLoader(sampler=…)``, those of one rank.

    ``groups`` are the bounds of runs of samples that lie together (``PatchPlan.groups``): the order then goes run by
    run and is mixed over ``mixed`` samples, so that fewer shards are open at a time.  Without, it is quite random.

    ``drop_last`` leaves out the end of an epoch that fills no batch on every rank.  Else the order is filled up from
    its start, so that all ranks have equally many samples, and the last batch may be smaller.

    Raises ValueError where an epoch would have no batch at all.
    """

    def __init__(
        self,
        dataset_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
        drop_last: bool = True,
        groups: NDArray[np.int64] | None = None,
        mixed: int = DEFAULT_MIXED,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}")
        step = batch_size * world_size
        if dataset_size < (step if drop_last else 1):
            raise ValueError(
                f"{dataset_size} samples fill no batch of {batch_size} on {world_size} ranks: "
                "take smaller batches or more data"
            )
        self.dataset_size = dataset_size
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0
        self.sample_in_epoch = 0
        """Samples of this epoch that all ranks together were given, as far as they were counted."""
        self._groups = groups
        self._mixed = mixed

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch."""
        return self._end(0) // self.world_size

    def __iter__(self) -> Iterator[int]:
        """What is left of the epoch; of the next one where nothing is."""
        self.begin()
        order = self._order()[: self._end(self.sample_in_epoch)]
        return iter(order[self.sample_in_epoch + self.rank :: self.world_size].tolist())

    def begin(self) -> int:
        """Go on to the next epoch if this one is at its end; gives the epoch whose samples come next."""
        if self.sample_in_epoch >= self._end(self.sample_in_epoch):
            self.set_epoch(self.epoch + 1)
        return self.epoch

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, as with ``torch.utils.data.DistributedSampler``."""
        self.epoch = epoch
        self.sample_in_epoch = 0

    def count_batch(self) -> None:
        """The training loop was given a batch, and on every other rank too."""
        end = self._end(self.sample_in_epoch)
        self.sample_in_epoch = min(self.sample_in_epoch + self.batch_size * self.world_size, end)

    def state_dict(self) -> dict[str, int]:
        """The same on every rank, and good for another number of ranks."""
        return {"epoch": self.epoch, "sample_in_epoch": self.sample_in_epoch, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where another sampler of this data set was.  Raises ValueError for a place that there is not."""
        epoch, sample, seed = (int(state[name]) for name in ("epoch", "sample_in_epoch", "seed"))
        if epoch < 0 or not 0 <= sample < self.dataset_size + self.world_size:
            raise ValueError(f"no place {sample} in epoch {epoch} of {self.dataset_size} samples")
        self.epoch, self.sample_in_epoch, self.seed = epoch, sample, seed

    def _end(self, start: int) -> int:
        """Where the epoch ends that goes on from ``start``, in steps of all ranks."""
        if self.drop_last:
            step = self.batch_size * self.world_size
            return start + max(0, self.dataset_size - start) // step * step
        return start + -(-max(0, self.dataset_size - start) // self.world_size) * self.world_size

    def _order(self) -> NDArray[np.int64]:
        order = mixed_order(self.dataset_size, self.seed, self.epoch, self._groups, self._mixed)
        missing = self._end(self.sample_in_epoch) - self.dataset_size
        return np.concatenate([order, np.resize(order, missing)]) if missing > 0 else order
