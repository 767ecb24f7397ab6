"""What the batch script tells an agent.  Nothing in it is secret; it is all in Slurm's records."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.catalogue.isolation import GIVEN, GivenIsolation
from hdrs_hpc.core.errors import UsageError


@dataclass(frozen=True)
class AgentArguments:
    attempt: str
    project: str
    audience: str
    scratch: Path
    private: Path
    """Folder of mode 0700 on the node's own disk: the runtime and the courier's socket."""
    broker_key: str
    isolation: GivenIsolation
    runtime: str
    flavour: str
    """Digest of the file that is read while keys are waited for; the order alone says which one is taken."""
    memory_mb: int
    lifetime_s: int
    nodes: int
    node: str
    launch_address: str
    """Address of the job's first node, as Slurm gives it; empty outside Slurm."""
    gpus: str
    """Value for CUDA_VISIBLE_DEVICES; empty where none are allocated."""


def parse(argv: Sequence[str]) -> AgentArguments:
    """Raises UsageError; the exit of argparse would print to a Slurm log."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    for kind, names in (
        (str, ("attempt", "project", "audience", "broker-key", "runtime", "flavour")),
        (Path, ("scratch", "private")),
        (int, ("memory-mb", "lifetime-s", "nodes")),
    ):
        for name in names:
            parser.add_argument(f"--{name}", required=True, type=kind)
    parser.add_argument("--isolation", required=True, choices=GIVEN)
    try:
        found = vars(parser.parse_args(argv))
    except argparse.ArgumentError:
        raise UsageError("the agent was started with arguments it does not know") from None
    gpus = os.environ.get("HDRS_GPUS", "")
    return AgentArguments(
        **found,
        node=os.environ.get("HDRS_NODE", ""),
        launch_address=os.environ.get("HDRS_LAUNCH_ADDRESS", ""),
        gpus=gpus if re.fullmatch(r"[A-Za-z0-9,/-]{1,400}", gpus, re.ASCII) else "",
    )
