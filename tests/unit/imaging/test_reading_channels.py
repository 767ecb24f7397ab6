"""What channels are called when a copy is read with xarray."""

from __future__ import annotations

from typing import Any

import pytest

labelled = pytest.importorskip("imaging.reading.labelled", reason="needs the extra xarray")


@pytest.mark.parametrize(
    ("channels", "size", "names"),
    [
        ("RGB", 3, ["red", "green", "blue"]),
        ([], 2, ["0", "1"]),
        ([{"name": "DAPI"}, {"label": "CD3"}], 2, ["DAPI", "CD3"]),
    ],
)
def test_channels_are_called_as_staging_wrote_them(channels: Any, size: int, names: list[str]) -> None:
    assert labelled._channel_names({"channels": channels}, size) == names
