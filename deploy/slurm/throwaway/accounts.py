"""Two projects' UNIX users, their SSH access, scratch, and their Slurm accounts and associations."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from throwaway.daemons import run
from throwaway.layout import ACCOUNTS, CLUSTER, Account, Layout


def make_users(layout: Layout) -> None:
    """System users without a password; ``*`` rather than ``!`` since sshd without PAM refuses locked ones."""
    for account in ACCOUNTS:
        try:
            found = pwd.getpwnam(account.user)
        except KeyError:
            home = str(layout.home(account))
            run(
                (
                    *("/usr/sbin/useradd", "--system", "--user-group", "--no-create-home"),
                    *("--home-dir", home, "--shell", "/bin/sh", "--password", "*", account.user),
                )
            )
            found = pwd.getpwnam(account.user)
        for folder in (layout.home(account), layout.scratch(account)):
            folder.parent.mkdir(mode=0o755, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            os.chown(folder, found.pw_uid, found.pw_gid)


def make_keys(layout: Layout) -> None:
    """The host's key, and one identity by which the broker enters as either account."""
    for key, comment in ((layout.host_key, "testsite"), (layout.broker_key, "broker")):
        if not key.exists():
            run(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
    folder = layout.etc / "authorized_keys"
    folder.mkdir(mode=0o755, exist_ok=True)
    for account in ACCOUNTS:
        file = folder / account.user
        file.write_text(public_line(layout.broker_key) + "\n")
        file.chmod(0o644)


def public_line(key: Path) -> str:
    """``ssh-ed25519 AAAA…`` without the comment."""
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def associate(layout: Layout) -> None:
    """Slurm accounts and users; sacctmgr's ``add`` of what exists changes nothing."""
    for account in ACCOUNTS:
        _sacctmgr(layout, "add", "account", account.slurm_account, f"Cluster={CLUSTER}")
        _sacctmgr(
            layout,
            *("add", "user", account.user, f"Account={account.slurm_account}"),
            *(f"DefaultAccount={account.slurm_account}", f"Cluster={CLUSTER}"),
        )


def is_associated(layout: Layout, account: Account) -> bool:
    argv = sacctmgr_argv(layout, "show", "association", f"user={account.user}", "format=account", "-nP")
    return account.slurm_account in run(argv, check=False).stdout.split()


def _sacctmgr(layout: Layout, *words: str) -> None:
    run(sacctmgr_argv(layout, "--immediate", *words), check=False)  # exits 1 for "Nothing new added"


def sacctmgr_argv(layout: Layout, *words: str) -> list[str]:
    return ["/usr/bin/env", f"SLURM_CONF={layout.slurm_conf}", "/usr/bin/sacctmgr", *words]
