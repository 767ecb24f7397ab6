"""Work in a process of its own.

SQLite's locks are POSIX locks: a process loses all that it holds on a file as soon as it closes any descriptor of it.
A test that has a broker's database open must not open its files to look into them, or another process takes the
shared memory of the database for its own and cuts it (seen as SIGBUS).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def in_another_process[**P, Got](work: Callable[P, Got], *arguments: P.args, **named: P.kwargs) -> Got:
    """What ``work``, a function of a module, gives; raises what it raises."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()
