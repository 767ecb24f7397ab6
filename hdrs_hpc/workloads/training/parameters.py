"""What the built-in trainings can be told, and the sizes of models: one field scales from tiny to ViT-L."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Size:
    """Of a vision transformer (Dosovitskiy et al. 2021, table 1; tiny and small: Touvron et al. 2021), and of the
    decoder that a masked autoencoder has while it is trained."""

    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_heads: int
    decoder_depth: int = 4


SIZES = {
    "vit-tiny": Size(192, 12, 3, 96, 3, 2),
    "vit-small": Size(384, 12, 6, 192, 6),
    "vit-base": Size(768, 12, 12, 384, 12),
    "vit-large": Size(1024, 24, 16, 384, 12),
}


@dataclass(frozen=True)
class Parameters:
    """The spec's ``parameters``, in kebab-case there (``batch-size``); what is not given is as here."""

    data: str = ""
    """Name of the input that has the images; the only one where there is one."""
    of: str = "slides"
    """``slides`` (2-D) or ``volumes`` (3-D)."""
    model: str = "vit-tiny"
    size: int = 224
    """Pixels along each side of a patch of a slide, or in y and x of one of a volume."""
    depth: int = 32
    """Voxels in z of a patch of a volume."""
    token: int = 16
    """Pixels along each side of what becomes one token; a volume's has as many slices."""
    level: int = 0
    mpp: float | tuple[float, ...] | None = None
    """Micrometres a pixel, or several; instead of ``level``."""
    tissue: float = 0.25
    """Least share of tissue in a patch of a slide."""
    spacing: tuple[float, ...] | None = None
    """Millimetres a voxel, z, y, x; None: as stored."""
    modality: str | None = None
    """Of volumes, as CT; None: all."""
    window: tuple[float, ...] | None = None
    """Values of volumes that become -1 and 1; None: each patch by its own mean and deviation."""
    epochs: int = 10
    steps: int | None = None
    """Optimiser steps that make an epoch; None: a pass over all patches."""
    batch_size: int = 64
    """Of one rank."""
    accumulate: int = 1
    """Batches of one optimiser step."""
    lr: float = 1.5e-4
    """The highest; it begins low and ends at 0, along a cosine."""
    warmup: float = 0.1
    """Share of all steps in which it rises."""
    weight_decay: float = 0.05
    workers: int = 4
    """Processes that read, of one rank."""
    seed: int = 0

    @classmethod
    def of_spec(cls, given: Mapping[str, Any], own: Collection[str] = (), **defaults: Any) -> Parameters:
        """``own``: names of one workload that are not here; its ``defaults`` stand before those here.

        Raises ValueError for a name that nobody knows, and for an unknown model or kind.
        """
        known = {item.name for item in fields(cls)}
        named = {name.replace("-", "_"): value for name, value in given.items() if name not in own}
        if unknown := sorted(set(named) - known):
            raise ValueError(f"no parameter {unknown[0].replace('_', '-')}")
        taken = {**defaults, **named}
        for name, hint in get_type_hints(cls).items():
            value = taken.get(name)
            if isinstance(value, list):
                taken[name] = tuple(float(one) for one in value)
            elif value is not None and hint is float:
                taken[name] = float(value)
        made = cls(**taken)
        if made.model not in SIZES:
            raise ValueError(f"model is one of {', '.join(SIZES)}")
        if made.of not in ("slides", "volumes"):
            raise ValueError("of is slides or volumes")
        return made

    @property
    def dimensions(self) -> int:
        return 2 if self.of == "slides" else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a patch, without channels."""
        return (self.size,) * 2 if self.of == "slides" else (self.depth, self.size, self.size)

    @property
    def channels(self) -> int:
        return 3 if self.of == "slides" else 1
