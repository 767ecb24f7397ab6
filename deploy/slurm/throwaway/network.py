"""One bridge, one network namespace a node; /sys stays the host's, or slurmd finds no cgroups."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from throwaway.daemons import UpError, run, wait_for
from throwaway.layout import BRIDGE, CONTROL_ADDRESS, NODES, PREFIX_BITS, Node

IP = "/usr/sbin/ip" if Path("/usr/sbin/ip").exists() else "/sbin/ip"


def bring_up() -> None:
    """Idempotent; an address on another link is somebody else's and stops us."""
    if not _exists(BRIDGE):
        if f"inet {CONTROL_ADDRESS}/" in run([IP, "-o", "-4", "addr"]).stdout:
            raise UpError(f"{CONTROL_ADDRESS} is in use on this machine")
        run([IP, "link", "add", BRIDGE, "type", "bridge"])
        run([IP, "addr", "add", f"{CONTROL_ADDRESS}/{PREFIX_BITS}", "dev", BRIDGE])
        run([IP, "link", "set", BRIDGE, "up"])
    for node in NODES:
        _add_node(node)


def _add_node(node: Node) -> None:
    if not namespace_path(node).exists():
        run([IP, "netns", "add", node.namespace])
    if _exists(node.outer_link):
        return
    inner = f"hdrsi-{node.name}"
    run([IP, "link", "add", node.outer_link, "type", "veth", "peer", "name", inner])
    run([IP, "link", "set", node.outer_link, "master", BRIDGE, "up"])
    run([IP, "link", "set", inner, "netns", node.namespace])
    inside = [IP, "-n", node.namespace]
    run([*inside, "link", "set", inner, "name", "eth0"])
    run([*inside, "addr", "add", f"{node.address}/{PREFIX_BITS}", "dev", "eth0"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "link", "set", "eth0", "up"])


def is_up() -> bool:
    return _exists(BRIDGE) and all(
        namespace_path(node).exists() and _exists(node.outer_link) for node in NODES
    )


def take_down() -> None:
    """End what is left in our namespaces (job steps outlive slurmd by design), then remove them."""
    for node in NODES:
        if namespace_path(node).exists():
            for number in (signal.SIGTERM, signal.SIGKILL):
                for pid in pids_inside(node):
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                if wait_for(lambda node=node: not pids_inside(node), 5):  # type: ignore[misc]
                    break
            run([IP, "netns", "delete", node.namespace])
        if _exists(node.outer_link):
            run([IP, "link", "delete", node.outer_link], check=False)
    if _exists(BRIDGE):
        run([IP, "link", "delete", BRIDGE])


def pids_inside(node: Node) -> list[int]:
    return [int(pid) for pid in run([IP, "netns", "pids", node.namespace]).stdout.split()]


def namespace_path(node: Node) -> Path:
    return Path("/run/netns") / node.namespace


def _exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()
