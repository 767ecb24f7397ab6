"""Weights that were built anew, read and written by the library that everybody uses."""

from __future__ import annotations

import io

import numpy as np
import pytest

from hdrs_hpc.protocol import safetensors


def test_what_is_built_is_what_the_library_reads() -> None:
    library = pytest.importorskip("safetensors.numpy", reason="torch is not here: run `make test-torch`")
    saved = {"w": np.arange(6, dtype="float32").reshape(2, 3), "n": np.array([True, False]), "s": np.int64(7)}
    raw = library.save({name: np.asarray(array) for name, array in saved.items()}, metadata={"format": "pt"})
    target = io.BytesIO()
    safetensors.rebuild(io.BytesIO(raw), len(raw), target)
    read = library.load(target.getvalue())
    assert {name: (a.dtype, a.shape, a.tolist()) for name, a in read.items()} == {
        name: (np.asarray(a).dtype, np.shape(a), np.asarray(a).tolist()) for name, a in saved.items()
    }
    assert b"format" not in target.getvalue()
