"""A dataset's registration as one page: what the data are, whose, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hdrs_hpc.client.pages.layout import NamedValues, Page, Section
from hdrs_hpc.documents.models.dataset import DatasetRegistration, counted

_MEETS = {
    "real": "- You state that these are data of real patients: no demo root, no isolation below `sandboxed` and no "
    "single person's decision ever meets them.",
    "public": "- You state that anybody may have these data: they are guarded less than those of patients.",
    "synthetic": "- You state that no patient is behind these data: they are guarded less than those of patients.",
}


def page(dataset: DatasetRegistration) -> Page:
    place = dataset.source.model_dump(mode="json", exclude_defaults=True)
    return Page(
        f"registration of dataset {dataset.name}",
        (
            Section(
                "What you register",
                [
                    NamedValues(
                        [
                            ("dataset", f"{dataset.name}, {dataset.kind}"),
                            ("data are", dataset.sensitivity),
                            ("owner", dataset.owner),
                            ("read from", ", ".join(_place(place))),
                            ("holds", counted(dataset.kind, dataset.items)),
                            (
                                "ids are of",
                                dataset.issuer or f"{dataset.name} itself, where they name no issuer",
                            ),
                            ("version", dataset.version),
                        ]
                    )
                ],
            ),
            Section(
                "What it leads to",
                [
                    _MEETS[dataset.sensitivity],
                    f"- Grants may name this version, with signatures of custodians of {dataset.owner}. Nothing is "
                    "read before one does, and before somebody says who opted out (`hdrs-hpc opt-out`).",
                    "- A changed source has another version, which is registered by itself.",
                ],
            ),
        ),
    )


def _place(told: dict[str, Any]) -> Iterator[str]:
    """``host pacs.example, select modalities CT MR``."""
    for name, value in told.items():
        if isinstance(value, dict):
            yield from (f"{name} {line}" for line in _place(value))
        else:
            shown = " ".join(value) if isinstance(value, list) else "yes" if value is True else value
            yield f"{name} {shown}"
