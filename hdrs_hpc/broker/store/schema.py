"""Tables of the broker's database (SQLite in WAL mode; SQLAlchemy Core; migrations by Alembic)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

VERSION = "0007"
"""Number of the newest migration, which leads to exactly these tables."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

documents = Table(
    "documents",
    metadata,
    Column("digest", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("people", JSON, nullable=False),
    Column("accepted_at", String, nullable=False),
)

trust_roots = Table(
    "trust_roots",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("digest", String, ForeignKey("documents.digest"), nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("name", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("registration", String, ForeignKey("documents.digest"), nullable=False),
    Column("kind", String, nullable=False),
    Column("sensitivity", String, nullable=False),
    Column("items", Integer, nullable=False),
)

opt_outs = Table(
    "opt_outs",
    metadata,
    Column("dataset", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", String, ForeignKey("documents.digest"), nullable=False, unique=True),
    Column("action", String, nullable=False),
    Column("ids", String, nullable=False),
    Column("list", String, nullable=False),
    Column("about", Integer, nullable=False),
    Column("accepted_at", String, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("name", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("grant", String, ForeignKey("documents.digest"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("frozen", Boolean, nullable=False, default=False),
    Column("closing_reason", String),
    Column("closing_since", String),
    Column("copy_keys_destroyed_at", String),
    Column("certificate", String),
)

copies = Table(
    "copies",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, ForeignKey("projects.name"), nullable=False),
    Column("dataset", String, nullable=False),
    Column("version", String, nullable=False),
    Column("cluster", String, nullable=False),
    Column("recipe", String, nullable=False),
    Column("opt_out", String),
    Column("state", String, nullable=False),
    Column("manifest_name", String),
    Column("manifest_digest", String),
    Column("objects", Integer),
    Column("plaintext_bytes", BigInteger),
    Column("sealed_bytes", BigInteger),
    Column("report", JSON),
    Column("reason", String),
    Column("unlinked", Integer),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, ForeignKey("projects.name"), nullable=False),
    Column("submitter", String, nullable=False),
    Column("spec", String, ForeignKey("documents.digest"), nullable=False, unique=True),
    Column("nonce", String, nullable=False),
    Column("name", String, nullable=False),
    Column("state", String, nullable=False),
    Column("outcome", String),
    Column("reason", String),
    Column("detail", JSON),
    Column("decision", JSON),
    Column("cluster", String),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("received_at", String, nullable=False),
    Column("changed_at", String, nullable=False),
    UniqueConstraint("submitter", "nonce"),
)

job_copies = Table(
    "job_copies",
    metadata,
    Column("job", String, ForeignKey("jobs.id"), primary_key=True),
    Column("input", String, primary_key=True),
    Column("copy", String, ForeignKey("copies.id"), nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("person", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("touched_at", String, nullable=False),
    UniqueConstraint("project", "person", "digest"),
)

held_files = Table(
    "held_files",
    metadata,
    Column("project", String, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("person", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("used_at", String, nullable=False),
)

job_files = Table(
    "job_files",
    metadata,
    Column("job", String, ForeignKey("jobs.id"), primary_key=True),
    Column("digest", String, primary_key=True),
)

attempts = Table(
    "attempts",
    metadata,
    Column("name", String, primary_key=True),
    Column("job", String, ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("submit_intent_at", String),
    Column("cluster_job_id", String),
    Column("submit_time", String),
    Column("restarts", Integer),
    Column("started_at", String),
    Column("ended_at", String),
    Column("raw_state", String),
    Column("exit_code", Integer),
    Column("handover", String, nullable=False, default="none"),
    Column("served", JSON),
    Column("bindings", JSON),
    Column("log_seq", Integer),
    Column("alloc_gpus", Integer, nullable=False, default=0),
    Column("progress", JSON),
    UniqueConstraint("job", "number"),
)

artefacts = Table(
    "artefacts",
    metadata,
    Column("job", String, ForeignKey("jobs.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("cls", String, nullable=False),
    Column("media_type", String),
    Column("size", Integer),
    Column("rebuilt", String),
    Column("file", String),
    Column("report", JSON, nullable=False),
    Column("report_digest", String, nullable=False),
    Column("refused", String),
    Column("nonce", String, nullable=False),
    Column("verdict", String),
    Column("release_record", String),
)

kept_outputs = Table(
    "kept_outputs",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, ForeignKey("projects.name"), nullable=False),
    Column("job", String, ForeignKey("jobs.id"), nullable=False),
    Column("attempt", String, ForeignKey("attempts.name"), nullable=False),
    Column("output", String, nullable=False),
    Column("cls", String, nullable=False),
    Column("cluster", String, nullable=False),
    Column("manifest_digest", String),
    Column("size", BigInteger),
    Column("kept_at", String),
    Column("destroyed_at", String),
    Column("unlinked", Integer),
    UniqueConstraint("attempt", "output"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("job", String, primary_key=True),
    Column("artefact", String, primary_key=True),
    Column("person", String, primary_key=True),
    Column("verdict", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("document", String, ForeignKey("documents.digest"), nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("event", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Index("ix_log_event_subject", "event", "subject"),
)

log_nodes = Table(
    "log_nodes",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Roots of the perfect subtrees of the log's Merkle tree, from pairs of leaves (level 1) upwards."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("envelope", LargeBinary, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("about", String, primary_key=True),
    Column("code", String, nullable=False),
    Column("message", String, nullable=False),
    Column("since", String, nullable=False),
)

cluster_nodes = Table(
    "cluster_nodes",
    metadata,
    Column("cluster", String, primary_key=True),
    Column("asked_at", String, nullable=False),
    Column("told", JSON),
    Column("told_at", String),
)
