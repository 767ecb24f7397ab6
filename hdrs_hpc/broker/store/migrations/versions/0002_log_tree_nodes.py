"""The log's Merkle tree is stored, so that no append or proof hashes the whole log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hdrs_hpc.audit import merkle

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    nodes = op.create_table(
        "log_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "position", name=op.f("pk_log_nodes")),
        sqlite_with_rowid=False,
    )
    op.drop_index(op.f("ix_log_event"), "log")
    op.create_index("ix_log_event_subject", "log", ["event", "subject"])
    leaves = [row.leaf for row in op.get_bind().execute(sa.text("SELECT leaf FROM log ORDER BY seq"))]
    tree = merkle.Leaves(leaves)
    rows = [
        {"level": level, "position": position, "hash": node}
        for index, leaf in enumerate(leaves)
        for level, position, node in merkle.completed(tree, index, leaf)
    ]
    if rows:
        op.bulk_insert(nodes, rows)
