"""The staging scheduler on Dask: worker processes on this machine, or a cluster inside the data zone, always over TLS.

Each worker has a bench of its own, opened by a worker plugin.  Nothing that goes through Dask holds a key.
"""

# distributed leaves most of what it offers without annotations.
# mypy: disable-error-code="no-untyped-call, type-arg"

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Concatenate

import dask
import distributed
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.scheduler import KilledWorker
from distributed.security import Security

from hdrs_hpc.confined import table
from imaging.staging import sandbox
from imaging.staging.items import Bench
from imaging.staging.scheduling import BenchSpec, ClusterTls, Scheduler, WorkersLostError

_CONNECT_S = 30
_DEATHS_PER_PART = 3


class _Cluster:
    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    @property
    def slots(self) -> int:
        return max(1, sum(self._client.nthreads().values()))

    def submit[**P, T](
        self, work: Callable[Concatenate[Bench, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        theirs = self._client.submit(_on_worker, self._name, work, args, kwargs, pure=False)
        ours: Future[T] = Future()
        ours.set_running_or_notify_cancel()
        theirs.add_done_callback(lambda done: _hand_over(done, ours))
        return ours

    def isolation(self) -> str:
        return table.weakest_of(self._client.run(sandbox.isolation).values())


def _hand_over(theirs: distributed.Future, ours: Future[Any]) -> None:
    """Dask's outcome as an ordinary one; the worker may forget its own."""
    error = theirs.exception() if theirs.status == "error" else None
    if theirs.status == "finished":
        try:
            ours.set_result(theirs.result())
        except (OSError, TimeoutError):  # the worker died with the result: Dask gave up fetching it
            ours.set_exception(WorkersLostError())
    elif error is None or isinstance(error, KilledWorker):
        ours.set_exception(WorkersLostError())
    else:
        ours.set_exception(error)
    theirs.release()


def _on_worker(name: str, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    plugin = distributed.get_worker().plugins[name]
    assert isinstance(plugin, _BenchOnWorker)
    return work(plugin.bench(), *args, **kwargs)


class _BenchOnWorker(WorkerPlugin):
    """A Dask worker plugin: opens the worker's bench, also on a worker that came in a dead one's place."""

    def __init__(self, name: str, spec: BenchSpec) -> None:
        self.name = name
        self._spec = spec

    def setup(self, worker: distributed.Worker) -> None:
        self._stack = contextlib.ExitStack()
        self._bench = self._stack.enter_context(self._spec.open(worker.state.nthreads))

    def teardown(self, worker: distributed.Worker) -> None:
        self._stack.close()

    def bench(self) -> Bench:
        return self._bench


@contextlib.contextmanager
def scheduler(client: Client, spec: BenchSpec) -> Iterator[Scheduler]:
    name = f"hdrs-hpc-bench-{secrets.token_hex(8)}"
    client.register_plugin(_BenchOnWorker(name, spec), name=name)
    try:
        yield _Cluster(client, name)
    finally:
        with contextlib.suppress(OSError, ValueError, TimeoutError):  # the cluster may be gone
            client.unregister_worker_plugin(name)


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Client]:
    """One process a worker, spawned (a forked one would hold the key), TLS on loopback, nothing spilled to disk."""
    settings = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.scheduler.allowed-failures": _DEATHS_PER_PART,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        # Inputs of a part travel with it.
        "distributed.admin.large-graph-warning-threshold": "1TB",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=Security.temporary(),
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # what they log of a failed part may name files
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def connected(address: str, tls: ClusterTls) -> Iterator[Client]:
    security = Security(
        require_encryption=True,
        tls_ca_file=str(tls.authority),
        tls_client_cert=str(tls.certificate),
        tls_client_key=str(tls.key),
    )
    try:
        client = Client(address, security=security, timeout=_CONNECT_S)
    except (OSError, TimeoutError):
        raise WorkersLostError("no scheduler answers at that address with these certificates") from None
    with client:
        yield client
