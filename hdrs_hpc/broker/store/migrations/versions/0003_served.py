"""What each attempt is served of its inputs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("served", sa.JSON(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("the log only grows: restore a backup instead")
