"""What a partition of Slurm has for one job, from one ``sinfo``: fields that Slurm 22.05 and later know."""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.clusters.commands import Completed
from connectors.clusters.port import SiteCommandError
from connectors.clusters.slurm_commands import QUERY_LIMIT_S, SEPARATOR, SlurmSite
from hdrs_hpc.core.capacity import Capacity, NodeKind

_NO_LIMIT = ("infinite", "UNLIMITED", "n/a")
_TIME = re.compile(r"(?:(?:([0-9]{1,5})-)?([0-9]{1,5}):)?([0-9]{1,5}):([0-9]{1,5})")
_NUMBER = re.compile(r"[0-9]{1,9}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_KINDS = 200
"""Of unlike nodes: what a site tells is kept, and told to everybody who looks at a project."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class SinfoCommand:
    """Every node of the partition that jobs go to, in whatever state: what is down may come back."""

    site: SlurmSite

    FIELDS = ("%P", "%D", "%c", "%m", "%G", "%l", "%s")
    """Partition (``*``: the default one), nodes, CPUs, memory, gres, longest time, most nodes of a job."""

    def argv(self) -> tuple[str, ...]:
        # A hidden partition may be the default one; sinfo refuses the two options together.
        chosen = f"--partition={self.site.partition}" if self.site.partition else "--all"
        return self.site.argv(
            QUERY_LIMIT_S,
            "sinfo",
            "--noheader",
            # Otherwise unlike nodes are told as one line with the least of each, "16+".
            "--exact",
            chosen,
            f"--format={SEPARATOR.join(self.FIELDS)}",
        )

    def parse(self, done: Completed) -> Capacity:
        """Raises SiteCommandError where the partition has no nodes that are told."""
        if done.returncode != 0:
            raise SiteCommandError(f"sinfo: {done.complaint or done.returncode}")
        kinds: dict[NodeKind, int] = {}
        limits: tuple[str, str] = ("infinite", "infinite")
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            fields = [field.strip() for field in line.split(SEPARATOR)]
            if len(fields) != len(self.FIELDS):
                raise SiteCommandError(f"sinfo: {len(fields)} fields where {len(self.FIELDS)} were asked for")
            partition, nodes, cpus, mem_mb, gres, *rest = fields
            if self.site.partition is None and not partition.endswith("*"):
                continue
            kind = NodeKind(0, _number(cpus), _number(mem_mb), _gres(gres))
            kinds[kind] = kinds.get(kind, 0) + _number(nodes)
            limits = (rest[0], rest[1])
        if not 0 < len(kinds) <= MAX_KINDS:
            raise SiteCommandError(f"sinfo: it tells {len(kinds)} kinds of nodes of the partition")
        told = (NodeKind(count, kind.cpus, kind.mem_mb, kind.gres) for kind, count in kinds.items())
        longest, most = limits
        # Every job is submitted with --exclusive.
        return Capacity(tuple(told), _most_nodes(most), _seconds(longest), whole_nodes=True)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise SiteCommandError(f"sinfo: {text[:40]!r} where a number was due")
    return int(text)


def _gres(text: str) -> tuple[str, ...]:
    """``gpu:a100:4(S:0,1),nic:no_consume:1`` as ``gpu:a100:4``, ``nic:1``; what can't be read is left out."""
    found = []
    for word in re.sub(r"\([^)]*\)", "", text).split(","):
        parts = [part for part in word.split(":") if part != "no_consume"]
        count = re.fullmatch(r"([0-9]{1,9})([KMGT]?)", parts[-1])
        if count is not None and 2 <= len(parts) <= 3 and all(map(_WORD.fullmatch, parts[:-1])):
            amount = int(count[1]) * _UNITS[count[2]]
            found += [":".join((*parts[:-1], str(amount)))] if amount else []
    return tuple(found)


def _most_nodes(text: str) -> int | None:
    """``1-infinite``, ``1-4``, or ``1``."""
    most = text.rpartition("-")[2]
    return None if most in _NO_LIMIT else _number(most)


def _seconds(text: str) -> int | None:
    """``1-00:00:00``, ``2:00:00``, ``30:00`` or ``infinite``."""
    if text in _NO_LIMIT:
        return None
    found = _TIME.fullmatch(text)
    if found is None:
        raise SiteCommandError(f"sinfo: {text[:40]!r} where a time was due")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
