"""A ``command`` workload: put files where they are asked for, run the program, wait for its end.

No shell stands between, and the program's output goes nowhere.  Of a crash the exit code is told; of Python code of
the bundle, which :mod:`hdrs_hpc.workloads.python_program` runs, the exception's type and line as of any entry.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from hdrs_hpc.catalogue.workloads.command import INTERPRETERS, CommandTold, filled
from hdrs_hpc.catalogue.workloads.plan import Process
from hdrs_hpc.core import wire
from hdrs_hpc.node.launch.crash import write_first, write_report
from hdrs_hpc.node.launch.plan import EXIT_EXCEPTION, Cause, CrashReport, Launch
from hdrs_hpc.workloads.materialise import TooLargeError, materialise

NOT_RUN = frozenset({errno.ENOENT, errno.ENOEXEC, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELIBBAD})


def run(launch: Launch, process: Process) -> int:
    """Run the program until its end; gives its exit code, 128 + n for signal n."""
    told = wire.from_value(CommandTold, launch.plan.told)
    folder = Path(launch.tmp, "inputs")
    try:
        materialise(told.materialise, folder, told.most_bytes)
    except TooLargeError:
        return _befell(launch, Cause.MATERIALISED_TOO_LARGE)
    except Exception as error:
        write_report(Path(launch.report), error, Path(launch.bundle))
        return EXIT_EXCEPTION
    paths = {("inputs", name): path for name, path in launch.files.items()}
    paths |= {("inputs", name): str(folder / name) for name in told.materialise}
    for name, path in launch.outputs.items():
        Path(launch.out, path).parent.mkdir(parents=True, exist_ok=True)
        paths["outputs", name] = str(Path(launch.out, path))
    try:
        program = subprocess.Popen(
            _command(launch, filled(told.run, paths)),
            env={**os.environ, **_environment(launch, paths)},
            cwd=launch.out,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        if error.errno not in NOT_RUN:
            raise
        return _befell(launch, Cause.PROGRAM_NOT_RUN)
    code = program.wait()
    if code < 0:
        return 128 - code
    return min(
        code, EXIT_EXCEPTION
    )  # what a program exits with is its own number, and could be any that it read


def _command(launch: Launch, words: tuple[str, ...]) -> list[str]:
    """The program by its path in the bundle, and nothing else; Python code by way of what reports its crash."""
    bundle = Path(launch.bundle)
    if words[0] not in INTERPRETERS:
        return [str(bundle / words[0]), *words[1:]]
    file = str(bundle / words[1])
    reporting = ("-I", "-B", "-m", "hdrs_hpc.workloads.python_program", launch.report, launch.bundle)
    return [sys.executable, *reporting, file, *words[2:]]


def _environment(launch: Launch, paths: dict[tuple[str, str], str]) -> dict[str, str]:
    """Names for scripts; ``python3`` of a script's first line is the flavour's, not the node's."""
    outputs = {
        f"HDRS_OUTPUT_{name.upper().replace('-', '_')}": path
        for (section, name), path in paths.items()
        if section == "outputs"
    }
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "HDRS_INPUTS": " ".join(launch.inputs),
        **outputs,
    }


def _befell(launch: Launch, cause: Cause) -> int:
    write_first(Path(launch.report), CrashReport(None, None, None, cause))
    return EXIT_EXCEPTION
