"""Destroying keys, and telling the log: the first never waits for the second, the second is never lost."""

from __future__ import annotations

from typing import Literal

from hdrs_hpc.broker.context import Context
from hdrs_hpc.broker.keys import messages as m
from hdrs_hpc.broker.store import log


def destroy_keys(
    ctx: Context, project: str, what: Literal["copies", "outputs", "all"], holder: str | None
) -> None:
    """Destroy, then log what keyd says is destroyed and the log does not say yet.  Idempotent."""
    ctx.ask(m.Destroy(project, what, holder))
    log_destroyed(ctx, project)


def log_destroyed(ctx: Context, project: str) -> None:
    """Catch the log up with keyd, which may have destroyed keys by itself or before a crash of ours."""
    keystore = ctx.ask(m.Status())["keystore"]["class"]
    destroyed = ctx.ask(m.Inspect(project))["destroyed"]
    with ctx.db.write() as tx:
        made = set()
        for event in ("copy-key-created", "output-key-created", "project-key-created"):
            made |= {entry.subject["key"] for entry in log.of_event(tx, event)}
        for record in destroyed:
            if record["id"] in made:
                log.append_once(
                    tx,
                    "key-destroyed",
                    {"project": project, "key": record["id"]},
                    actor=log.KEYD,
                    detail={"role": record["role"], "keystore": keystore},
                )
