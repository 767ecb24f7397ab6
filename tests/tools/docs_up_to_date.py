"""Are the generated pages and schemas what the code makes today?  ``--write`` brings them up to date."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def _lives() -> str:
    from hdrs_hpc.broker import states

    return states.document()


def _staging_reasons() -> str:
    from imaging.staging import refusals

    return refusals.as_markdown()


def _output_classes() -> str:
    from hdrs_hpc.catalogue import outputs

    return outputs.as_markdown()


def _metrics() -> str:
    from hdrs_hpc.broker.reading import metrics

    return metrics.page()


def _not_built() -> str:
    from hdrs_hpc.policy import not_built

    return not_built.as_markdown()


def _sandboxes() -> str:
    from hdrs_hpc.confined import table

    return table.as_markdown()


def _flavour_packages() -> str:
    from tests.tools import flavour_packages

    return flavour_packages.text()


PAGES: dict[str, Callable[[], str]] = {
    "docs/lives.md": _lives,
    "docs/not-built.md": _not_built,
    "docs/sandboxes.md": _sandboxes,
    "docs/reference/metrics.md": _metrics,
    "docs/staging-reasons.md": _staging_reasons,
    "docs/output-classes.md": _output_classes,
    "hdrs_hpc/catalogue/flavour_packages.py": _flavour_packages,
}


def main(argv: list[str]) -> int:
    from hdrs_hpc.documents import schema

    write = "--write" in argv
    stale = []
    from hdrs_hpc.cli import reference

    texts = {name: make() for name, make in PAGES.items()} | reference.pages()
    for name, text in texts.items():
        path = ROOT / name
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if write:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
    if schema.main([str(ROOT / "jobspecs/schema"), *([] if write else ["--check"])]):
        stale.append("jobspecs/schema")
    if stale and not write:
        print(f"not up to date: {', '.join(stale)}; run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
