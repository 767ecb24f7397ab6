"""Alembic's entry: runs migrations on the engine that ``Database.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from hdrs_hpc.broker.store.schema import metadata

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
