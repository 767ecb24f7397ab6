"""A private MariaDB for slurmdbd: own folder, own socket, a loopback port, no file of /etc read."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from throwaway.daemons import Daemon, run
from throwaway.layout import DATABASE_PORT, Layout


def prepare(layout: Layout) -> None:
    """Make the data folder once; a half-made one of an interrupted ``up`` is made anew."""
    done = layout.database / "hdrs-ready"
    for folder in (layout.database, layout.database_socket.parent):
        folder.mkdir(mode=0o755, exist_ok=True)
        shutil.chown(folder, "mysql", "mysql")
    if done.exists():
        return
    shutil.rmtree(layout.database)
    layout.database.mkdir(mode=0o700)
    shutil.chown(layout.database, "mysql", "mysql")
    run(
        (
            *("/usr/bin/mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={layout.database}"),
            *("--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve"),
        )
    )
    done.touch()


def daemon(layout: Layout) -> Daemon:
    argv = (
        "/usr/sbin/mariadbd",
        "--no-defaults",
        "--user=mysql",
        f"--datadir={layout.database}",
        f"--socket={layout.database_socket}",
        f"--port={DATABASE_PORT}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=16M",
        "--innodb-lock-wait-timeout=900",
        "--innodb-flush-log-at-trx-commit=2",
        "--performance-schema=OFF",
    )
    return Daemon(layout, "mariadbd", argv)


def answers(layout: Layout) -> bool:
    return run(_client(layout, "SELECT 1"), check=False).returncode == 0


def make_slurm_user(layout: Layout, password: str) -> None:
    run(
        _client(
            layout,
            "CREATE DATABASE IF NOT EXISTS slurm_acct_db; "
            "CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY ''; "
            f"ALTER USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}'; "
            "GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1'",
        )
    )


def password(file: Path) -> str:
    """Random, made once, readable by root only."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()


def _client(layout: Layout, statement: str) -> list[str]:
    return ["/usr/bin/mariadb", "--no-defaults", f"--socket={layout.database_socket}", "-e", statement]
