"""Where things lie on a site.  All paths are relative to the project's scratch and given as parts.

Below ``<scratch>/hdrs-hpc/``::

    runtime/<sha256 hex>.tar                          the pinned node runtime: what agents run on
    runtime/<sha256 hex>.squashfs                     a flavour: what sandboxes run on
    <project>/copies/<copy id>/                       sealed objects of a staged copy
    <project>/kept/<kept id>/                         sealed objects of an output that stays in the project
    <project>/attempts/<attempt>/bundle/              sealed objects of the researcher's bundle
    <project>/attempts/<attempt>/served/<input>/      index, tables and manifest of what a narrower selection chose
    <project>/attempts/<attempt>/outputs/             sealed objects of what came out
    <project>/attempts/<attempt>/progress.json        measured by the agent, in coarse steps
    <project>/attempts/<attempt>/closing.json         name and digest of the outputs' manifest, once sealed

and on each node ``<node tmp>/<attempt>-<node>/`` (0700) with ``rt/`` (the unpacked runtime),
``flavour/`` (seen by the attempt's own processes alone) and ``agent.sock``.
"""

from __future__ import annotations

from pathlib import PurePosixPath

ROOT = "hdrs-hpc"
SOCKET_NAME = "agent.sock"
RUNTIME_FOLDER = "rt"
COURIER_WAITS_S = 20
"""How long a courier waits on a node for an agent that is still starting."""
PROGRESS_NAME = "progress.json"
CLOSING_NAME = "closing.json"
BUNDLE_PATH = "bundle.tar"
"""Path of the code inside a sealed bundle; its wheels lie beside it."""
WHEELS_ITEM = "wheels"
CLOSING_LIST_PATH = "closing-list.json"
"""Path, inside the sealed outputs, of the list that ends them."""
OUTPUT_PREFIX = "output/"
"""An output named ``cohort`` lies at ``output/cohort`` inside the sealed outputs."""

Parts = tuple[str, ...]


def project_parts(project: str) -> Parts:
    return (ROOT, project)


def copy_parts(project: str, copy: str) -> Parts:
    return (ROOT, project, "copies", copy)


def kept_parts(project: str, kept: str) -> Parts:
    return (ROOT, project, "kept", kept)


def attempt_parts(project: str, attempt: str) -> Parts:
    return (ROOT, project, "attempts", attempt)


def bundle_parts(project: str, attempt: str) -> Parts:
    return (*attempt_parts(project, attempt), "bundle")


def wheel_path(digest: str) -> str:
    """Of a wheel inside a sealed bundle."""
    return f"{WHEELS_ITEM}/{digest.removeprefix('sha256:')}.whl"


def served_parts(project: str, attempt: str, *name: str) -> Parts:
    """Of the input ``name``; without one, of all."""
    return (*attempt_parts(project, attempt), "served", *name)


def outputs_parts(project: str, attempt: str) -> Parts:
    return (*attempt_parts(project, attempt), "outputs")


def progress_parts(project: str, attempt: str) -> Parts:
    return (*attempt_parts(project, attempt), PROGRESS_NAME)


def closing_parts(project: str, attempt: str) -> Parts:
    return (*attempt_parts(project, attempt), CLOSING_NAME)


def runtime_parts(digest: str) -> Parts:
    """Of a runtime whose digest is ``sha256:<hex>``."""
    return (ROOT, "runtime", f"{digest.removeprefix('sha256:')}.tar")


def flavour_parts(digest: str) -> Parts:
    """Of the file of a flavour, named by its digest as well."""
    return (ROOT, "runtime", f"{digest.removeprefix('sha256:')}.squashfs")


def join(scratch: str, parts: Parts) -> str:
    """An absolute path on the site."""
    return str(PurePosixPath(scratch, *parts))


def node_folder(node_tmp: str, attempt: str, node: str) -> str:
    return f"{node_tmp.rstrip('/')}/{attempt}-{node}"


def courier_argv(node_tmp: str, attempt: str) -> tuple[str, ...]:
    """What the broker runs once per node, in the attempt's own job, to reach that node's agent.

    The node's name is only known there, so a shell puts the path together.  The first line of stdin is one
    request, the only line of stdout one reply (see :mod:`hdrs_hpc.protocol.handover`).  It waits there for an agent
    that is still starting, rather than be sent again and again.
    """
    folder = node_folder(node_tmp, attempt, "${SLURMD_NODENAME:-$(uname -n)}")
    script = (
        # A neighbour can read the attempt's name in the queue and be first with the folder: only our own counts.
        f'd="{folder}"; left={COURIER_WAITS_S * 10}; seen=; '
        f'until [ -S "$d/{SOCKET_NAME}" ] || [ "$left" = 0 ]; do '
        'if [ -d "$d" ]; then seen=1; elif [ -n "$seen" ]; then exit 69; fi; '  # it gave up
        "left=$((left - 1)); sleep 0.1; done; "
        '[ -O "$d" ] && [ ! -L "$d" ] || exit 69; '
        f'unset LD_PRELOAD; export LD_LIBRARY_PATH="$d/{RUNTIME_FOLDER}/lib"; '
        f'exec "$d/{RUNTIME_FOLDER}/bin/python3" -I -B -m hdrs_hpc.node.courier "$d/{SOCKET_NAME}"'
    )
    return ("/bin/sh", "-c", script)
