"""One run of one program: what is measured of it, and what is said when it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.comparing import Contender


def python(code: str, *words: str, **more: object) -> Contender:
    return Contender("it", (sys.executable, "-c", code, *words), **more)  # type: ignore[arg-type]


def test_wall_time_and_processor_time_of_the_whole_tree_are_measured() -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    run = measure.run(python(parent, burn), 1, "warm")
    assert run.error is None
    assert run.figures["user-s"] + run.figures["system-s"] >= 0.25
    assert run.figures["wall-s"] >= 0.3


def test_processor_time_of_a_process_that_nobody_waited_for_is_measured() -> None:
    """As a sandboxed parser's is, which is killed with its sandbox."""
    burn = "while True: pass"
    parent = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(0.8); os._exit(0)"
    )
    run = measure.run(python(parent, burn), 1, "warm")
    assert run.figures["user-s"] + run.figures["system-s"] >= 0.2


def test_peak_memory_counts_a_child_of_the_program() -> None:
    hold = (
        "import time; held = bytearray(200 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep(0.5)"
    )
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    small = measure.run(python("import time; time.sleep(0.3)"), 1, "warm").figures["peak-bytes"]
    large = measure.run(python(parent, hold), 1, "warm").figures["peak-bytes"]
    assert large - small > 150 << 20


def test_figures_that_a_program_tells_are_taken_from_its_last_line() -> None:
    said = json.dumps({"figures": {"patches-per-s": 12.5}})
    run = measure.run(python(f"print('chatter'); print('{said}')"), 1, "warm")
    assert run.figures["patches-per-s"] == 12.5


def test_a_staging_report_gives_its_phases() -> None:
    said = {"run": {"seconds": 3.0, "reading-seconds": 1.0}, "staged": {"items": 4, "image-bytes": 10}}
    assert measure.reported(json.dumps(said)) == {
        "stage-s": 3.0,
        "headers-s": 1.0,
        "staged-items": 4.0,
        "image-bytes": 10.0,
    }


@pytest.mark.parametrize("said", ["", "words", "[1, 2]", '{"other": 1}'])
def test_a_program_that_tells_nothing_has_no_figures_of_its_own(said: str) -> None:
    assert measure.reported(said) == {}


def test_a_program_that_fails_is_told_with_its_last_words() -> None:
    run = measure.run(python("raise SystemExit('it broke')"), 1, "warm")
    assert run.figures == {}
    assert run.error == "exit code 1: it broke"


def test_a_program_that_takes_too_long_is_stopped_and_said_so() -> None:
    run = measure.run(python("import time; time.sleep(60)"), 1, "warm", time_limit_s=0.5)
    assert run.error is not None
    assert run.error.startswith("ended by signal")


@pytest.mark.parametrize(
    ("need", "name"), [("no_such_module", "no_such_module"), ("bin:no-such-program", "no-such-program")]
)
def test_what_is_not_installed_is_named(need: str, name: str) -> None:
    run = measure.run(python("", needs=(need,)), 1, "warm")
    assert run.error == f"not installed: {name}"


def test_output_is_removed_before_a_run_and_counted_after_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(bytes(1000))
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(bytes(5000))
    code = f"import pathlib; p = pathlib.Path({str(out)!r}); p.mkdir(); (p / 'new').write_bytes(bytes(1500))"
    run = measure.run(python(code, outputs=out, inputs=(tmp_path / "in",)), 1, "warm")
    assert run.error is None
    assert run.figures["output-bytes"] == 1500
    assert run.figures["output-over-input"] == 1.5
    assert not (out / "old").exists()


def test_a_file_that_is_forgotten_leaves_the_page_cache(request: pytest.FixtureRequest) -> None:
    """Beside the sources, since a temporary folder may lie in memory, from where nothing can be dropped."""
    if shutil.which("fincore") is None:
        pytest.skip("util-linux's fincore is not there to look")
    path = request.config.cache.mkdir("page-cache") / "in"
    path.write_bytes(os.urandom(1 << 20))
    measure.read_through(path)
    assert _cached(path) == 1 << 20
    measure.forget(path)
    assert _cached(path) < 1 << 20


def _cached(path: Path) -> int:
    done = subprocess.run(["fincore", "-nbo", "res", str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts Python also where the tests were started with it ignored, as shells do in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_stopping_the_benchmark_stops_the_program_it_measures(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = (
        f"import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )

    def interrupt() -> None:
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        measure.run(python(code), 1, "warm")
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_all_files_below_a_folder_are_counted_when_it_is_brought_to_the_medium(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(bytes(10))
    (tmp_path / "y").write_bytes(bytes(5))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert measure.sync_tree(tmp_path) == 15
    assert measure.sync_tree(tmp_path / "y") == 5
