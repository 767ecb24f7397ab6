"""Push of sealed objects to scratch over SFTP, against rsync over the same sshd."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from benchmarks.bench import Bench, Making, contender
from benchmarks.cases import ASKED
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import sshd
from benchmarks.data.sshd import Sshd
from benchmarks.measure import program

ONE, FOUR = "rsync", "rsync, 4 side by side"
_NAME = "push"


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    lacking = [name for name in ("sshd", "ssh", "ssh-keygen", "rsync") if program(name) is None]
    if lacking:
        yield Skipped(_NAME, "push over SFTP", f"not installed: {', '.join(lacking)}")
        return
    size = bench.size
    shapes = (
        ("large", size.objects, size.object_bytes),
        ("many", 4000 if size.name != "small" else 100, 10_000),
    )
    with sshd.running(bench.scratch / "sshd") as server:
        settings = _settings(bench, server)
        for name, count, each in shapes:
            source = _objects(bench, count, each)
            yield Comparison(
                f"push-{name}",
                f"push {count} objects of {each >> 20} MiB"
                if each >> 20
                else f"push {count} objects of {each} bytes",
                "MB/s",
                (
                    Contender(
                        "hdrs-hpc",
                        contender("push", "sealed", settings, source, bench.scratch / "site" / "sealed"),
                        outputs=bench.scratch / "site" / "sealed",
                    ),
                    _rsync(bench, server, ONE, 1, source),
                    _rsync(bench, server, FOUR, 4, source),
                ),
                (Goal("≥ 0.8 × rsync, one or four", ASKED, peers=(ONE, FOUR), least=0.8),),
                figure="mb-per-s",
                better="higher",
                notes=("Same sshd on loopback, same key, OpenSSH's default cipher; no compression.",),
            )


def _rsync(bench: Bench, server: Sshd, name: str, streams: int, source: Path) -> Contender:
    dest = bench.scratch / "site" / f"rsync-{streams}"
    words = ("rsync", streams, server.user, server.port, server.identity, server.known_hosts, source, dest)
    return Contender(name, contender("push", *words), needs=("bin:rsync", "bin:ssh"), outputs=dest)


def _settings(bench: Bench, server: Sshd) -> Path:
    """Of a cluster that is this machine; only its objects are used, never Slurm."""
    path = bench.scratch / "site.toml"
    path.write_text(
        f'name = "bench"\ntype = "slurm"\nisolation = "cooperative"\nmax-nodes = 1\n\n'
        f'[ssh]\nhost = "127.0.0.1"\nport = {server.port}\nhost-key = "{server.host_key}"\n'
        f'identity = "{server.identity}"\n\n[slurm]\n\n'
        f'[projects.bench]\nuser = "{server.user}"\naccount = "bench"\nscratch = "{bench.scratch / "site"}"\n',
        "utf-8",
    )
    return path


def _objects(bench: Bench, count: int, each: int) -> Path:
    """Random bytes, which is what ciphertext is."""

    def make(folder: Path, told: Making) -> None:
        for number in range(count):
            (folder / f"o{number:06d}").write_bytes(os.urandom(each))
            told(number, count)

    return bench.made("objects", {"count": count, "bytes": each}, make)
