"""JSON Schema of the documents that people write, generated from the models for editors to complete and check.

``python -m hdrs_hpc.documents.schema FOLDER`` writes the files, ``--check`` only compares.  A schema says less
than the models do: what must fit together is told by ``hdrs-hpc spec check``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.forms.document import Document


def written() -> dict[str, type[Document]]:
    """Every document that people write, by the name of its schema file."""
    found: dict[str, type[Document]] = {}
    for kind in KINDS.values():
        if kind.filed:
            found[kind.name] = kind.draft
            if kind.draft is not kind.model:
                found[f"{kind.name}-signed"] = kind.model
    return found


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
        for name, model in written().items()
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
