"""The same copy wherever parts are made, whoever is killed on the way; and no key where it does not belong."""

from __future__ import annotations

import hashlib
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from archive import instance, series, write

from connectors.sources.folder import FolderSource
from hdrs_hpc.sealing.cipher import KeyStaysHereError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging.staging import inventory
from imaging.staging.engine import Progress, StagePlan, StagingChangedError, stage
from imaging.staging.scheduling import SchedulerUnknownError, Where
from tests.support.opt_outs import stated

REPO = Path(__file__).resolve().parents[3]
KEY, DEID = b"KEY-CANARY-" + b"k" * 21, b"DEID-CANARY-" + b"d" * 20


def archive(folder: Path, count: int = 6) -> Path:
    for number in range(count):
        series(folder, name=f"n{number}", slices=3, patient=f"P{number}")
    write(instance(ImagePositionPatient=None, PixelData=b"short"), folder / "cut-short.dcm")
    (folder / "text.dcm").write_bytes(b"no image")
    return folder


def staged(
    source: Path, out: Path, note: Callable[[Progress], None] | None = None, **plan: Any
) -> dict[str, str]:
    """Path → digest of the plaintext, of all that the copy holds."""
    built = CopyBuilder(DirectoryStore(out / "o"), KEY, "copy", "p", "c", out / "j")
    values: dict[str, Any] = {"opt_out": stated(), "max_failed": 1000, "workers": 2, **plan}
    found = FolderSource(source)
    try:
        stage(
            found,
            inventory.scan(found),
            built,
            StagePlan("radiology", "radiology-basic@1", DEID, **values),
            note,
        )
        return {path: hashlib.sha256(built.read(path)).hexdigest() for path in built.paths()}
    finally:
        built.close()


def test_worker_processes_make_the_same_copy_also_when_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed.protocol.pickle as pickling

    said: list[bytes] = []

    def dumps(value: Any, *args: Any, **kwargs: Any) -> bytes:
        said.append(made := original(value, *args, **kwargs))
        return made

    original: Callable[..., bytes] = pickling.dumps
    monkeypatch.setattr(pickling, "dumps", dumps)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.phase == "writing" and progress.items_done == 2 and not killed:
            workers = [
                child
                for child in psutil.Process().children(recursive=True)
                if "spawn_main" in " ".join(child.cmdline())
            ]
            killed.append(len(workers))
            workers[0].send_signal(signal.SIGKILL)

    source = archive(tmp_path / "a", count=12)
    straight = staged(source, tmp_path / "threads")
    spread = staged(source, tmp_path / "processes", kill_one, where=Where("processes"))
    assert killed == [2]
    assert spread == straight
    # Everything that was said to a worker was seen here; neither key is in it.
    assert any(b"make_part" in one for one in said)
    assert not [one for one in said if b"CANARY" in one]
    with pytest.raises(KeyStaysHereError):
        pickle.dumps(CopyBuilder(DirectoryStore(tmp_path / "x"), KEY, "copy", "p", "c", tmp_path / "y"))


STAGE = """
import sys
from pathlib import Path
sys.path[:0] = [{repo!r}, {here!r}, {support!r}]
from test_engine_workers import staged
staged(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_a_staging_ends_in_the_same_copy(tmp_path: Path, seed: int) -> None:
    source = archive(tmp_path / "a", count=10)
    straight = staged(source, tmp_path / "straight")
    code = STAGE.format(
        repo=str(REPO), here=str(Path(__file__).parent), support=str(REPO / "tests" / "support")
    )
    chance, kills = random.Random(seed), 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code, str(source), str(tmp_path / "killed")])
        objects = tmp_path / "killed" / "o"
        # Starting takes most of the time: the moment is drawn from when there is something to lose.
        wanted = len(list(objects.glob("*"))) + chance.randrange(1, 12) if objects.exists() else 1
        while process.poll() is None and len(list(objects.glob("*"))) < wanted:
            time.sleep(0.002)
        time.sleep(chance.random() / 20)
        if process.poll() is None:
            process.send_signal(chance.choice([signal.SIGKILL, signal.SIGINT]))
            kills += 1
        process.wait(60)
    assert kills
    assert staged(source, tmp_path / "killed") == straight


def test_another_policy_does_not_go_on_with_an_unfinished_copy(tmp_path: Path) -> None:
    source = archive(tmp_path / "a", count=1)
    staged(source, tmp_path / "c")
    staged(source, tmp_path / "c")
    with pytest.raises(StagingChangedError):
        staged(source, tmp_path / "c", deface=True)


@pytest.mark.parametrize("where", ["elsewhere", "tcp://127.0.0.1:8786", "tls://127.0.0.1:8786"])
def test_work_is_given_to_no_cluster_without_tls_and_certificates(tmp_path: Path, where: str) -> None:
    with pytest.raises(SchedulerUnknownError):
        staged(archive(tmp_path / "a", count=1), tmp_path / "c", where=Where(where))
