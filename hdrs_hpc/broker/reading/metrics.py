"""The metrics that ``GET /metrics`` tells: one table, one row a metric.

They are numbers of the broker's own doings: no names of projects, people or data.  docs/reference/metrics.md is made
of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from hdrs_hpc.broker import heartbeats
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.store import alerts, jobs, log, transition
from hdrs_hpc.core import clock

PREFIX = "hdrs_hpc_"


@dataclass(frozen=True)
class Reading:
    """What a metric is read from, at one moment."""

    tx: Connection
    home: BrokerHome
    now: datetime


type Values = Mapping[tuple[str, ...], float]
"""Values of the labels, in the order of the row → number."""


@dataclass(frozen=True)
class Row:
    """One metric.  A ``counter`` only grows, and is told with ``_total`` at the end of its name."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Reading], Values]

    @property
    def told_as(self) -> str:
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"

    def family(self, reading: Reading) -> Metric:
        cls = GaugeMetricFamily if self.kind == "gauge" else CounterMetricFamily
        family = cls(PREFIX + self.name, self.help, labels=self.labels)
        for labels, value in sorted(self.read(reading).items()):
            family.add_metric(labels, value)
        return family


def _in_states(life: str) -> Callable[[Reading], Values]:
    return lambda reading: {(state,): count for state, count in transition.count(reading.tx, life).items()}


def _oldest_queued_s(reading: Reading) -> Values:
    since = jobs.oldest_in_state(reading.tx, "QUEUED")
    return {(): (reading.now - clock.from_text(since)).total_seconds() if since else 0.0}


def _alerts(reading: Reading) -> Values:
    return {(code,): n for code, n in Counter(item.code for item in alerts.every(reading.tx)).items()}


def _log_entries(reading: Reading) -> Values:
    return {(): log.size(reading.tx)}


def _signed_entries(reading: Reading) -> Values:
    latest = log.latest_checkpoint(reading.tx)
    return {(): latest[0] if latest else 0}


def _heartbeat_ages(reading: Reading) -> Values:
    return {(loop,): beat.age_s for loop, beat in _heartbeats(reading) if beat is not None}


def _heartbeats_stale(reading: Reading) -> Values:
    return {(loop,): float(beat is None or beat.stale) for loop, beat in _heartbeats(reading)}


def _failures(reading: Reading) -> Values:
    return {(loop,): beat.failures for loop, beat in _heartbeats(reading) if beat is not None}


def _heartbeats(reading: Reading) -> Iterator[tuple[str, heartbeats.Heartbeat | None]]:
    yield heartbeats.CONTROLLER, heartbeats.controller(reading.home, reading.now)
    yield heartbeats.KEYD, heartbeats.keyd(reading.home, reading.now)
    for beat in heartbeats.clusters(reading.home, reading.now):
        yield f"cluster {beat.cluster}", beat


TABLE: list[Row] = [
    Row("jobs", "gauge", "Jobs in each state.", ("state",), _in_states("job")),
    Row("copies", "gauge", "Staged copies in each state.", ("state",), _in_states("copy")),
    Row("projects", "gauge", "Projects in each state.", ("state",), _in_states("project")),
    Row(
        "oldest_queued_job_age_seconds",
        "gauge",
        "How long the job that waits longest has been in QUEUED; 0 while none is.",
        (),
        _oldest_queued_s,
    ),
    Row("alerts", "gauge", "What waits for something outside, by reason code.", ("code",), _alerts),
    Row("log_entries", "counter", "Entries of the audit log.", (), _log_entries),
    Row("log_signed_entries", "counter", "Entries under the newest signed checkpoint.", (), _signed_entries),
    Row(
        "heartbeat_age_seconds",
        "gauge",
        "How long ago each loop of the controller said that it goes on.",
        ("loop",),
        _heartbeat_ages,
    ),
    Row(
        "heartbeat_stale",
        "gauge",
        "1 where a loop was silent for longer than it ever should be, or was never heard of.",
        ("loop",),
        _heartbeats_stale,
    ),
    Row(
        "loop_failures",
        "gauge",
        "How many ticks of each loop failed one after the other; 0 once one went well.",
        ("loop",),
        _failures,
    ),
]


def text(reading: Reading, table: Iterable[Row] = TABLE) -> bytes:
    """All metrics in Prometheus' text format, version 0.0.4."""

    class Now(Collector):
        def collect(self) -> Iterable[Metric]:
            return [row.family(reading) for row in table]

    registry = CollectorRegistry()
    registry.register(Now())
    return generate_latest(registry)


def page(table: Iterable[Row] = TABLE) -> str:
    """docs/reference/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Generated from `hdrs_hpc/broker/reading/metrics.py` by `make docs`; do not edit.",
        "",
        "`GET /metrics` tells them in Prometheus' text format, without a login, to the addresses under `monitoring`.",
        "",
        "| metric | kind | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for row in table:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.told_as}` | {row.kind} | {labels} | {row.help} |")
    return "\n".join(lines) + "\n"
