"""JSON Schema of the documents that people write, generated from the models for editors to complete and check.

``python -m hdrs_hpc.documents.schema FOLDER`` writes the files, ``--check`` only compares.  A schema says less
than the models do: what must fit together is told by ``hdrs-hpc spec check``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hdrs_hpc.documents.models import (
    Closure,
    CodeApproval,
    DatasetRegistration,
    Grant,
    JobSpec,
    JobSpecDraft,
    OptOutChange,
    OutputDecision,
    TrustRoot,
)
from hdrs_hpc.forms.document import Document

WRITTEN: dict[str, type[Document]] = {
    "job-spec": JobSpecDraft,
    "job-spec-signed": JobSpec,
    "grant": Grant,
    "trust-root": TrustRoot,
    "dataset-registration": DatasetRegistration,
    "code-approval": CodeApproval,
    "output-decision": OutputDecision,
    "closure": Closure,
    "opt-out-change": OptOutChange,
}


def generate(model: type[Document]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one document, with its own schema name as a constant."""
    made = model.model_json_schema(by_alias=True, mode="validation")
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["properties"]["schema"] = {"const": model.SCHEMA}
    return made


def files() -> dict[str, bytes]:
    """File name → content of every schema file."""
    return {
        f"{name}.json": (json.dumps(generate(model), indent=2, ensure_ascii=False) + "\n").encode()
        for name, model in WRITTEN.items()
    }


def stale(folder: Path) -> list[str]:
    """Names of schema files in ``folder`` that are not as they should be."""
    wanted = files()
    there = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(arguments: list[str]) -> int:
    folder = Path(next((item for item in arguments if not item.startswith("-")), "jobspecs/schema"))
    if "--check" in arguments:
        found = stale(folder)
        if found:
            sys.stderr.write(f"not up to date in {folder}: {', '.join(found)}\n")
        return 1 if found else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
