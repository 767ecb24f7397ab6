"""What a workload's entry is called with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hdrs_hpc.core.errors import NotFoundError
from imaging.reading import StagedCopy, open_staged


class NoSuchOutputError(NotFoundError):
    code = "output-not-declared"
    meaning = "The job spec declares no output of that name."
    remedy = "Add it under `outputs:`; only declared outputs are collected."


class Context:
    """Inputs, parameters, outputs and the Dask client of one run.

    ``data`` maps the input names of the job spec to staged copies, ``inputs`` the names under ``inputs:`` to files that
    nobody changes; ``parameters`` is the spec's own mapping; ``client`` is connected to as many workers as the
    allocation holds.
    """

    def __init__(
        self,
        client: Any,
        parameters: dict[str, Any],
        data: Sequence[str],
        outputs: dict[str, Path],
        inputs: dict[str, Path] | None = None,
    ) -> None:
        self.client = client
        self.parameters = parameters
        self.data: dict[str, StagedCopy] = {name: open_staged(name) for name in data}
        self.inputs = inputs or {}
        self._outputs = outputs

    @property
    def output_names(self) -> list[str]:
        return sorted(self._outputs)

    def output(self, name: str) -> Path:
        """Where to write the declared output ``name``; its folder is there.  Raises NoSuchOutputError."""
        if name not in self._outputs:
            raise NoSuchOutputError(where=name)
        path = self._outputs[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
