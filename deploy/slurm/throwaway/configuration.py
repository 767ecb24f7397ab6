"""The text of every configuration file, from the layout."""

from __future__ import annotations

import os
from pathlib import Path

from throwaway.layout import (
    ACCOUNTS,
    CLUSTER,
    CONTROL_ADDRESS,
    DATABASE_PORT,
    NODE_CPUS,
    NODE_MEMORY_MB,
    NODES,
    PARTITION,
    SLURMCTLD_PORT,
    SLURMD_PORT,
    SLURMDBD_PORT,
    SSHD_PORT,
    Layout,
)


def slurm_conf(layout: Layout) -> str:
    nodes = "".join(
        f"NodeName={node.name} NodeHostname={node.name} NodeAddr={node.address} CPUs={NODE_CPUS}"
        f" RealMemory={NODE_MEMORY_MB} Gres=gpu:{node.gpus} State=UNKNOWN\n"
        for node in NODES
    )
    task = "task/cgroup" if memory_controller() else "task/none"
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost=ctl({CONTROL_ADDRESS})
SlurmctldPort={SLURMCTLD_PORT}
SlurmdPort={SLURMD_PORT}
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
CredType=cred/munge

StateSaveLocation={layout.slurmctld_state}
SlurmdSpoolDir={layout.spool}/%n
SlurmctldPidFile={layout.run}/slurmctld.own-pid
SlurmdPidFile={layout.run}/slurmd-%n.own-pid
MailProg=/bin/true

# One machine plays every part, in containers too: cgroups hold memory where this machine has them, nothing else.
ProctrackType=proctrack/linuxproc
TaskPlugin={task}
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2

SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
DefMemPerNode=256
EnforcePartLimits=ALL
JobRequeue=0

# Quick answers for tests; a real site keeps finished jobs longer and schedules less often.
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
MinJobAge=60
KillWait=5
UnkillableStepTimeout=30
MessageTimeout=10
SlurmctldTimeout=30
SlurmdTimeout=60

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={SLURMDBD_PORT}
# For slurmdbd this "password" is the munge socket; AuthInfo does not reach those connections.
AccountingStoragePass={layout.munge_socket}
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits

{nodes}\
PartitionName={PARTITION} Nodes={",".join(node.name for node in NODES)} Default=YES MaxTime=1-00:00:00 State=UP
"""


def gres_conf(layout: Layout) -> str:
    lines = [
        f"NodeName={node.name} Name=gpu File={layout.gpu(node, index)}"
        for node in NODES
        for index in range(node.gpus)
    ]
    return "\n".join(lines) + "\n"


def memory_controller() -> int:
    """The version of the cgroups through which root can bound memory here; 0 where it can't."""
    top = Path("/sys/fs/cgroup")
    if (top / "memory/memory.limit_in_bytes").exists() and os.access(top / "memory", os.W_OK):
        return 1
    controllers = top / "cgroup.controllers"
    usable = controllers.exists() and "memory" in controllers.read_text().split()
    return 2 if usable and os.access(top, os.W_OK) else 0


def cgroup_conf() -> str:
    """slurmd opens a cgroup plugin even when nothing uses it; without systemd's help, so that containers do."""
    version2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    plugin = "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes\n" if version2 else "CgroupPlugin=cgroup/v1\n"
    if not memory_controller():
        return plugin
    # A job that takes more than its --mem is killed by the kernel, and only that job.
    return f"{plugin}ConstrainRAMSpace=yes\nAllowedRAMSpace=100\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n"


def slurmdbd_conf(layout: Layout, password: str) -> str:
    return f"""\
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={SLURMDBD_PORT}
SlurmUser=slurm
PidFile={layout.run}/slurmdbd.own-pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={DATABASE_PORT}
StorageLoc=slurm_acct_db
StorageUser=slurm
StoragePass={password}
"""


def sshd_config(layout: Layout) -> str:
    return f"""\
Port {SSHD_PORT}
ListenAddress 127.0.0.1
HostKey {layout.host_key}
PidFile none
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers {" ".join(account.user for account in ACCOUNTS)}
AuthorizedKeysFile {layout.etc}/authorized_keys/%u
UsePAM no
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitUserEnvironment no
PrintMotd no
MaxStartups 50
Subsystem sftp internal-sftp
"""


def site_toml(layout: Layout, host_key: str) -> str:
    head = f"""\
# Written by deploy/slurm/up: the settings with which a broker on this machine uses the throw-away cluster.
name = "{CLUSTER}"
type = "slurm"
isolation = "sandboxed"
node-tmp = "/tmp"
max-nodes = {len(NODES)}

[ssh]
host = "127.0.0.1"
port = {SSHD_PORT}
host-key = "{host_key}"
identity = "{layout.broker_key}"

[slurm]
bin = "/usr/bin"
conf = "{layout.slurm_conf}"
partition = "{PARTITION}"
"""
    projects = [
        f'[projects.{account.project}]\nuser = "{account.user}"\naccount = "{account.slurm_account}"\n'
        f'scratch = "{layout.scratch(account)}"\n'
        for account in ACCOUNTS
    ]
    return "\n".join([head, *projects])
