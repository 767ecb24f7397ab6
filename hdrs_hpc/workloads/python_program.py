"""``python -m hdrs_hpc.workloads.python_program REPORT BUNDLE FILE [ARGUMENT …]``: a Python file of a bundle, as a
program, whose exception is reported by type and line like any entry's."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from hdrs_hpc.node.launch.crash import write_report
from hdrs_hpc.node.launch.plan import EXIT_EXCEPTION
from hdrs_hpc.workloads import entry


def main(argv: list[str]) -> int:
    report, bundle, file = Path(argv[0]), Path(argv[1]), argv[2]
    sys.argv = argv[2:]
    entry.prepare_imports(bundle)
    folder = str(Path(file).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        runpy.run_path(file, run_name="__main__")
    except SystemExit as error:
        if error.code in (0, None):
            return 0
        write_report(report, error, bundle)
        return EXIT_EXCEPTION
    except BaseException as error:
        write_report(report, error, bundle)
        return EXIT_EXCEPTION
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
