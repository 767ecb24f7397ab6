"""Outputs that stay in their project, sealed, for its later jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kept_outputs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("attempt", sa.String(), nullable=False),
        sa.Column("output", sa.String(), nullable=False),
        sa.Column("cls", sa.String(), nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("manifest_digest", sa.String(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("kept_at", sa.String(), nullable=True),
        sa.Column("destroyed_at", sa.String(), nullable=True),
        sa.Column("unlinked", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_kept_outputs_project")),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_kept_outputs_job")),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.name"], name=op.f("fk_kept_outputs_attempt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_outputs")),
        sa.UniqueConstraint("attempt", "output", name=op.f("uq_kept_outputs_attempt_output")),
    )


def downgrade() -> None:
    raise NotImplementedError("the log only grows: restore a backup instead")
