"""Bring the whole cluster up, tell whether it is well, take it down."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from throwaway import accounts, configuration, database, network
from throwaway.daemons import Daemon, UpError, await_daemon, run, wait_for
from throwaway.layout import (
    ACCOUNTS,
    CLUSTER,
    CONTROL_ADDRESS,
    DATABASE_PORT,
    NODES,
    SLURMCTLD_PORT,
    SLURMDBD_PORT,
    SSHD_PORT,
    Layout,
    Node,
)

FUSE = Path("/dev/fuse")
PROGRAMS = (
    *("/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/slurmdbd"),
    *("/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db", "/usr/sbin/sshd", "/usr/bin/ssh-keygen"),
    *("/usr/bin/sbatch", "/usr/bin/sacctmgr", "/usr/bin/nsenter", "/usr/bin/unshare", network.IP),
)


def up(layout: Layout) -> str:
    """Make or mend the cluster; gives one line that says what was done.  Raises UpError."""
    _check_machine()
    _make_folders(layout)
    with _locked(layout):
        if is_well(layout):
            return "already up"
        network.bring_up()
        _prepare(layout)
        _open_fuse(layout)
        _start_munge(layout)
        _start_accounting(layout)
        _start_slurm(layout)
        _start_sshd(layout)
        if not wait_for(lambda: is_well(layout), 90, 0.3):
            raise UpError("all daemons run, yet " + "; ".join(_troubles(layout)))
        return "up"


def down(layout: Layout) -> None:
    """Stop what was started, in reverse; the state folder stays, so that the next ``up`` is quick."""
    if not layout.run.is_dir():
        return
    with _locked(layout):
        if slurmctld(layout).pid() is not None:
            for account in ACCOUNTS:
                run(slurm_argv(layout, "scancel", f"--user={account.user}"), check=False)
            wait_for(lambda: not _jobs(layout), 15, 0.3)
        for daemon in reversed(_daemons(layout)):
            daemon.stop()
        network.take_down()
        _remove_cgroups()
        _put_fuse_back(layout)


def _open_fuse(layout: Layout) -> None:
    """Sites have /dev/fuse open to all, as udev makes it; a container often has not.  What was is written down."""
    if FUSE.exists() and not layout.fuse_mode.exists():
        layout.fuse_mode.write_text(f"{stat.S_IMODE(FUSE.stat().st_mode):04o}\n")
        FUSE.chmod(0o666)


def _put_fuse_back(layout: Layout) -> None:
    if layout.fuse_mode.exists():
        FUSE.chmod(int(layout.fuse_mode.read_text(), 8))
        layout.fuse_mode.unlink()


def _remove_cgroups() -> None:
    """slurmd leaves its own behind (version 1: a hierarchy for each controller)."""
    for top in Path("/sys/fs/cgroup").glob("**/slurm_n[12]"):
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            top.rmdir()


def purge(layout: Layout) -> None:
    """Remove the state folder and the users; refuses a folder that ``up`` did not make."""
    if not layout.state.exists():
        return
    if not layout.slurm_conf.is_file() and not layout.run.is_dir():
        raise UpError(f"{layout.state} does not look like a state folder of slurm-up")
    for account in ACCOUNTS:
        run(["/usr/sbin/userdel", account.user], check=False)
    shutil.rmtree(layout.state)


def is_well(layout: Layout) -> bool:
    return not _troubles(layout)


def _troubles(layout: Layout) -> list[str]:
    """What is wrong, cheapest look first."""
    dead = [daemon.name for daemon in _daemons(layout) if daemon.pid() is None]
    if dead:
        return [f"{', '.join(dead)} not running"]
    if not network.is_up():
        return ["the bridge or a namespace is missing"]
    if not layout.site_toml.exists():
        return ["site.toml was never written"]
    troubles = []
    states = run(slurm_argv(layout, "sinfo", "-h", "-N", "-o", "%N %T"), check=False).stdout
    for node in NODES:
        if f"{node.name} " not in states or any(
            word in line
            for line in states.splitlines()
            if line.startswith(f"{node.name} ")
            for word in ("down", "drain", "unk", "*", "fail")
        ):
            troubles.append(f"{node.name} is not ready: {states.strip()!r}")
    if not all(accounts.is_associated(layout, account) for account in ACCOUNTS):
        troubles.append("slurmdbd does not know the projects' accounts")
    if not _port_answers("127.0.0.1", SSHD_PORT):
        troubles.append("sshd does not answer")
    return troubles


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise UpError("needs root: it makes users, network namespaces and a bridge")
    missing = [program for program in PROGRAMS if not Path(program).exists()]
    if missing:
        raise UpError(f"missing {', '.join(missing)}; run as root: deploy/install-packages slurm jobs base")


def _make_folders(layout: Layout) -> None:
    for folder in (layout.state, layout.etc, layout.run, layout.log, layout.spool, layout.state / "dev"):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    with (layout.run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare(layout: Layout) -> None:
    accounts.make_users(layout)
    accounts.make_keys(layout)
    for node in NODES:
        (layout.spool / node.name).mkdir(mode=0o755, exist_ok=True)
        for index in range(node.gpus):
            _make_gpu(layout.gpu(node, index))
    for folder in (layout.slurmctld_state,):
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(folder, "slurm", "slurm")
    secret = database.password(layout.etc / "database-password")
    _write(layout.slurm_conf, configuration.slurm_conf(layout))
    _write(layout.etc / "gres.conf", configuration.gres_conf(layout))
    _write(layout.etc / "cgroup.conf", configuration.cgroup_conf())
    _write(layout.etc / "sshd_config", configuration.sshd_config(layout))
    _write(layout.etc / "slurmdbd.conf", configuration.slurmdbd_conf(layout, secret), 0o600)
    shutil.chown(layout.etc / "slurmdbd.conf", "slurm", "slurm")
    _write(layout.site_toml, configuration.site_toml(layout, accounts.public_line(layout.host_key)))


def _make_gpu(path: Path) -> None:
    """A character device that Slurm can count: /dev/null under another name."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    if not path.exists():
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text)


def munged(layout: Layout) -> Daemon:
    argv = (
        *("/usr/sbin/munged", "--foreground", "--force", f"--socket={layout.munge_socket}"),
        *(f"--key-file={layout.munge}/munge.key", f"--pid-file={layout.munge}/munged.pid"),
        *(f"--log-file={layout.log}/munged.log", f"--seed-file={layout.munge}/munged.seed"),
    )
    return Daemon(layout, "munged", argv)


def slurmdbd(layout: Layout) -> Daemon:
    argv = ("/usr/bin/env", f"SLURM_CONF={layout.slurm_conf}", "/usr/sbin/slurmdbd", "-D")
    return Daemon(layout, "slurmdbd", argv)


def slurmctld(layout: Layout) -> Daemon:
    argv = ("/usr/sbin/slurmctld", "-D", "-f", str(layout.slurm_conf))
    return Daemon(layout, "slurmctld", _as_host("ctl", argv))


def slurmd(layout: Layout, node: Node) -> Daemon:
    argv = ("/usr/sbin/slurmd", "-D", "-N", node.name, "-f", str(layout.slurm_conf))
    inside = ("/usr/bin/nsenter", f"--net={network.namespace_path(node)}")
    return Daemon(layout, f"slurmd-{node.name}", (*inside, *_as_host(node.name, argv)))


def sshd(layout: Layout) -> Daemon:
    argv = ("/usr/sbin/sshd", "-D", "-e", "-f", f"{layout.etc}/sshd_config")
    return Daemon(layout, "sshd", argv)


def _as_host(name: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """A UTS namespace of its own; every step is an exec, so the pid stays the one we started."""
    return ("/usr/bin/unshare", "--uts", "/bin/sh", "-c", 'hostname "$0" && exec "$@"', name, *argv)


def _daemons(layout: Layout) -> list[Daemon]:
    nodes = [slurmd(layout, node) for node in NODES]
    return [
        munged(layout),
        database.daemon(layout),
        slurmdbd(layout),
        slurmctld(layout),
        *nodes,
        sshd(layout),
    ]


def _start_munge(layout: Layout) -> None:
    layout.munge.mkdir(mode=0o700, exist_ok=True)
    layout.munge_socket.parent.mkdir(mode=0o755, exist_ok=True)
    key = layout.munge / "munge.key"
    if not key.exists():
        key.touch(mode=0o400)
        key.write_bytes(os.urandom(128))
    daemon = munged(layout)
    daemon.start()
    await_daemon(daemon, layout.munge_socket.is_socket, 60)


def _start_accounting(layout: Layout) -> None:
    database.prepare(layout)
    store = database.daemon(layout)
    _claim_port(store, "127.0.0.1", DATABASE_PORT)
    store.start()
    await_daemon(store, lambda: database.answers(layout), 180)
    database.make_slurm_user(layout, database.password(layout.etc / "database-password"))
    daemon = slurmdbd(layout)
    _claim_port(daemon, "127.0.0.1", SLURMDBD_PORT)
    daemon.start()
    await_daemon(daemon, lambda: _port_answers("127.0.0.1", SLURMDBD_PORT), 120)
    await_daemon(daemon, lambda: _sacctmgr_answers(layout), 120)
    if not all(accounts.is_associated(layout, account) for account in ACCOUNTS):
        run(accounts.sacctmgr_argv(layout, "--immediate", "add", "cluster", CLUSTER), check=False)
        accounts.associate(layout)


def _start_slurm(layout: Layout) -> None:
    control = slurmctld(layout)
    _claim_port(control, CONTROL_ADDRESS, SLURMCTLD_PORT)
    control.start()
    await_daemon(control, lambda: _port_answers(CONTROL_ADDRESS, SLURMCTLD_PORT), 60)
    for node in NODES:
        slurmd(layout, node).start()
    for node in NODES:
        wait_for(lambda node=node: _is_idle(layout, node), 15, 0.3)  # type: ignore[misc]
        if not _is_idle(layout, node):
            words = (f"NodeName={node.name}", "State=RESUME")
            run(slurm_argv(layout, "scontrol", "update", *words), check=False)


def _start_sshd(layout: Layout) -> None:
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # compiled into sshd, for privilege separation
    daemon = sshd(layout)
    _claim_port(daemon, "127.0.0.1", SSHD_PORT)
    daemon.start()
    await_daemon(daemon, lambda: _port_answers("127.0.0.1", SSHD_PORT), 60)


def _claim_port(daemon: Daemon, address: str, port: int) -> None:
    if daemon.pid() is None and _port_answers(address, port):
        raise UpError(f"port {port} on {address}, meant for {daemon.name}, belongs to another process")


def _port_answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def _sacctmgr_answers(layout: Layout) -> bool:
    return run(accounts.sacctmgr_argv(layout, "show", "cluster", "-nP"), check=False).returncode == 0


def _is_idle(layout: Layout, node: Node) -> bool:
    states = run(slurm_argv(layout, "sinfo", "-h", "-n", node.name, "-o", "%T"), check=False).stdout
    return states.strip() in ("idle", "mixed", "allocated", "completing")


def _jobs(layout: Layout) -> str:
    return run(slurm_argv(layout, "squeue", "-h"), check=False).stdout.strip()


def slurm_argv(layout: Layout, command: str, *words: str) -> list[str]:
    return ["/usr/bin/env", f"SLURM_CONF={layout.slurm_conf}", f"/usr/bin/{command}", *words]
