"""Several at once, results in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def in_order[In, Out](work: Callable[[In], Out], inputs: Iterable[In], threads: int) -> Iterator[Out]:
    """``map(work, inputs)`` by threads, at most two inputs a thread ahead of who reads the results.

    The first error ends it: nothing more is begun, what is at work is waited for, and the error is raised.
    """
    with ThreadPoolExecutor(threads, "source") as pool:
        ahead: deque[Future[Out]] = deque()
        try:
            for one in inputs:
                ahead.append(pool.submit(work, one))
                if len(ahead) >= 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
