"""``hdrs-hpc explain``."""

from __future__ import annotations

from dataclasses import asdict

import click

from hdrs_hpc.cli import options, show
from hdrs_hpc.core.errors import NotFoundError


class CodeUnknownError(NotFoundError):
    code = "code-unknown"
    meaning = "There is no such reason code."
    remedy = "`hdrs-hpc explain --list` shows all of them."


@click.command()
@click.argument("code", required=False)
@click.option("--list", "list_all", is_flag=True, help="List all codes.")
@options.as_json
def explain(code: str | None, list_all: bool, as_json: bool) -> None:
    """Tell what a reason code means and how to mend it.

    \b
    Example:
      hdrs-hpc explain isolation-insufficient
    """
    from hdrs_hpc.cli import reasons

    if code is None and not list_all:
        raise click.UsageError("Give a reason code, or --list.")
    found = [item for item in reasons.known() if code is None or item.code == code.strip().lower()]
    if not found and code is not None:
        raise CodeUnknownError(_near(code, [item.code for item in reasons.known()]), where=code[:60])
    if as_json:
        show.emit_json([asdict(item) for item in found])
        return
    if code is None:
        show.table(("code", "where", "meaning"), [(r.code, r.group, r.meaning) for r in found], empty="")
        return
    for item in found:
        show.facts(
            [
                ("code", item.code),
                (
                    "where",
                    item.group
                    if item.kind is None
                    else f"{item.group}, exit code {item.exit_code} ({item.kind})",
                ),
                ("means", item.meaning),
                ("remedy", item.remedy),
                ("retry", "the same again may succeed later" if item.retry else None),
            ]
        )


def _near(code: str, codes: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(code.lower(), codes, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "no code looks like it"
