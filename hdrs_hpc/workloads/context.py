"""What a workload's entry is called with: what every kind has; each kind adds its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.node.launch.plan import Launch
from imaging.reading import StagedCopy, open_staged


class NoSuchOutputError(NotFoundError):
    code = "output-not-declared"
    meaning = "The job spec declares no output of that name."
    remedy = "Add it under `outputs:`; only declared outputs are collected."


class Context:
    """Inputs, parameters and outputs of one run.

    ``data`` maps the input names of the job spec to staged copies, ``inputs`` the names under ``inputs:`` to files that
    nobody changes; ``parameters`` is the spec's own mapping.
    """

    def __init__(self, launch: Launch, parameters: dict[str, Any]) -> None:
        self.parameters = parameters
        self.data: dict[str, StagedCopy] = {name: open_staged(name) for name in launch.inputs}
        self.inputs = {name: Path(path) for name, path in launch.files.items()}
        self._outputs = {name: Path(launch.out, path) for name, path in launch.outputs.items()}

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
