"""Where staging's keyless work runs: threads of this process, processes beside it, or a Dask cluster.

The port is :class:`Scheduler`.  Work is a module's function that gets the worker's own :class:`Bench` first; what
it is given and gives back is plain data.  No key is in any of it, so none is in Dask's messages, pickles, spills or
dumps: the process that called seals what comes back.

Threads are plain ones: a task costs Dask's in-process cluster some 1.2 ms of processor time against 0.03 ms, as much
as a small series costs altogether.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Concatenate, Protocol

import pyarrow as pa

from connectors.sources import Source
from hdrs_hpc.core.errors import SiteError, UsageError
from imaging.staging import sandbox
from imaging.staging.items import Bench
from imaging.staging.pool import ITEM_TIMEOUT_S, ParserPool
from imaging.staging.reading import ItemReader
from imaging.staging.signatures import Signatures

THREADS, PROCESSES = "threads", "processes"


class WorkersLostError(SiteError):
    code = "staging-workers-lost"
    meaning = "Worker processes that decode images died again and again, or their cluster can't be reached."
    remedy = "Check memory and network of the workers, then run the same command again: it goes on."


class SchedulerUnknownError(UsageError):
    code = "scheduler-unknown"
    meaning = "Work can be given to threads, to processes, or to a Dask cluster that speaks TLS."
    remedy = "Write threads, processes or tls://HOST:PORT; the last needs --dask-tls CA CERT KEY."


@dataclass(frozen=True, slots=True)
class ClusterTls:
    """PEM files that make this process a peer of a Dask cluster: authority, certificate, private key."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Where:
    """``scheduler``: ``threads``, ``processes``, or ``tls://HOST:PORT`` of a cluster in the data zone."""

    scheduler: str = THREADS
    tls: ClusterTls | None = None


@dataclass(frozen=True, slots=True)
class BenchSpec:
    """What a worker needs to open a bench of its own.  Picklable: a source travels as a reference."""

    source: Source
    table: pa.Table = field(repr=False)
    """The inventory."""
    timeout_s: float = ITEM_TIMEOUT_S
    seen: Signatures | None = field(default=None, repr=False)
    """See :class:`ItemReader`."""

    @contextlib.contextmanager
    def open(self, parsers: int, started: ParserPool | None = None) -> Iterator[Bench]:
        """A bench with ``parsers`` parser processes, ended at once where the block ends by an error; ``started`` are
        taken over."""
        with (
            ThreadPoolExecutor(parsers, "decode") as threads,
            started or ParserPool(parsers, timeout_s=self.timeout_s) as pool,
        ):
            yield Bench(ItemReader(self.source, self.table, pool, self.seen), threads)


class Scheduler(Protocol):
    """Runs work on benches."""

    @property
    def slots(self) -> int:
        """Pieces of work that run at once."""
        ...

    def submit[**P, T](
        self, work: Callable[Concatenate[Bench, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run ``work(bench, *args)`` once, again only where a worker died under it.

        The future raises what ``work`` raised, or :class:`WorkersLostError`.
        """
        ...

    def isolation(self) -> str:
        """The weakest isolation of parsers among the workers: ``bubblewrap`` or ``process-limits``."""
        ...


@contextlib.contextmanager
def open_scheduler(
    where: Where, spec: BenchSpec, workers: int, started: ParserPool | None = None
) -> Iterator[Scheduler]:
    """The scheduler that ``where`` names; threads take over ``started``.

    Raises :class:`SchedulerUnknownError`, :class:`WorkersLostError`.
    """
    if where.scheduler == THREADS:
        with _threads(spec, workers, started) as threads:
            yield threads
        return
    from imaging.staging import dask_cluster  # takes a second to load

    if where.scheduler == PROCESSES:
        with dask_cluster.processes(workers) as client, dask_cluster.scheduler(client, spec) as cluster:
            yield cluster
    elif where.scheduler.startswith("tls://") and where.tls is not None:
        connected = dask_cluster.connected(where.scheduler, where.tls)
        with connected as client, dask_cluster.scheduler(client, spec) as cluster:
            yield cluster
    else:
        raise SchedulerUnknownError()


class _Threads:
    def __init__(self, bench: Bench, threads: ThreadPoolExecutor, slots: int) -> None:
        self._bench = bench
        self._threads = threads
        self.slots = slots

    def submit[**P, T](
        self, work: Callable[Concatenate[Bench, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        return self._threads.submit(work, self._bench, *args, **kwargs)

    def isolation(self) -> str:
        return sandbox.isolation()


@contextlib.contextmanager
def _threads(spec: BenchSpec, workers: int, started: ParserPool | None) -> Iterator[Scheduler]:
    # The bench is inside: at an error its parsers are killed first, so that no thread waits for one.
    with ThreadPoolExecutor(workers, "part") as threads, spec.open(workers, started) as bench:
        try:
            yield _Threads(bench, threads, workers)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
