"""What clusters told of their nodes, and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cluster_nodes",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("asked_at", sa.String(), nullable=False),
        sa.Column("told", sa.JSON(), nullable=True),
        sa.Column("told_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("cluster", name=op.f("pk_cluster_nodes")),
    )


def downgrade() -> None:
    raise NotImplementedError("the log only grows: restore a backup instead")
