"""Signed statements of who opted out of a dataset, and the list that each copy was made under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "opt_outs",
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("ids", sa.String(), nullable=False),
        sa.Column("list", sa.String(), nullable=False),
        sa.Column("about", sa.Integer(), nullable=False),
        sa.Column("accepted_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["document"], ["documents.digest"], name=op.f("fk_opt_outs_document")),
        sa.PrimaryKeyConstraint("dataset", "version", name=op.f("pk_opt_outs")),
        sa.UniqueConstraint("document", name=op.f("uq_opt_outs_document")),
    )
    # Without a rebuild of the table: a copy of before is under no list, and so outdated.
    op.add_column("copies", sa.Column("opt_out", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("the log only grows: restore a backup instead")
