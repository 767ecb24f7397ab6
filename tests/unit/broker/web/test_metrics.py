from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest

from hdrs_hpc.broker import heartbeats
from hdrs_hpc.broker.heartbeats import Pulse
from hdrs_hpc.broker.reading import metrics
from hdrs_hpc.core import clock
from tests.support.office import REGISTRATION, Office

ROOT = Path(__file__).parents[4]
PACKAGES = ("hdrs_hpc", "connectors", "imaging")


def values(office: Office) -> dict[str, float]:
    lines = office.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_a_metric_is_one_row(office: Office) -> None:
    """A made-up metric is told and documented by its row alone."""
    made_up = metrics.Row("open_windows", "gauge", "Windows left open.", ("floor",), lambda _: {("2",): 3})
    with office.db.read() as tx:
        reading = metrics.Reading(tx, office.home, clock.now())
        text = metrics.text(reading, [*metrics.TABLE, made_up]).decode()
    assert "# HELP hdrs_hpc_open_windows Windows left open.\n# TYPE hdrs_hpc_open_windows gauge\n" in text
    assert 'hdrs_hpc_open_windows{floor="2"} 3.0' in text
    assert "| `hdrs_hpc_open_windows` | gauge | `floor` | Windows left open. |" in metrics.page([made_up])


def test_metrics_are_written_in_the_table_and_nowhere_else() -> None:
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if path == ROOT / "hdrs_hpc/broker/reading/metrics.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(metrics.PREFIX), f"{path}:{node.lineno}"
            if isinstance(node, ast.ImportFrom) and node.module == "prometheus_client.exposition":
                assert [name.name for name in node.names] == ["CONTENT_TYPE_PLAIN_0_0_4"], path
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(name.name for name in node.names)]
                assert not any(name.startswith("prometheus_client") for name in names), path


def test_names_in_the_table_are_unique_and_explained() -> None:
    names = [row.name for row in metrics.TABLE]
    assert len(set(names)) == len(names)
    assert all(row.help.endswith(".") for row in metrics.TABLE)


def test_how_long_the_oldest_queued_job_waits(office: Office) -> None:
    assert values(office)["hdrs_hpc_oldest_queued_job_age_seconds"] == 0
    job = office.job()
    office.move(job, "lung-fm", "RECEIVED", "ADMITTED", "STAGING", "QUEUED")
    with office.db.read() as tx:
        in_an_hour = metrics.Reading(tx, office.home, clock.now() + timedelta(hours=1))
        text = metrics.text(in_an_hour).decode()
    (line,) = [line for line in text.splitlines() if line.startswith("hdrs_hpc_oldest_queued_job_age")]
    assert 3600 <= float(line.rsplit(" ", 1)[1]) < 3660
    office.move(job, "lung-fm", "QUEUED", "PURGING")
    assert values(office)["hdrs_hpc_oldest_queued_job_age_seconds"] == 0


def test_silent_loops_are_told_by_health_and_metrics(office: Office) -> None:
    assert office.get("/healthz").text == "ok\n"
    assert values(office)['hdrs_hpc_heartbeat_stale{loop="controller"}'] == 0

    Pulse.of_cluster(office.home, "isambard-ai", stale_after_s=-1).beat()
    healthy = office.get("/healthz")
    assert (healthy.status_code, healthy.text) == (
        200,
        "degraded: the loops of 1 clusters are stuck or fail\n",
    )
    assert values(office)['hdrs_hpc_heartbeat_stale{loop="cluster isambard-ai"}'] == 1
    (office.home.heartbeats_dir / "cluster-isambard-ai.json").unlink()

    Pulse.of_controller(office.home, stale_after_s=-1).beat()
    assert office.get("/healthz").status_code == 503
    assert "last heard of 0 s ago" in office.get("/healthz").text
    assert values(office)['hdrs_hpc_heartbeat_stale{loop="controller"}'] == 1
    assert values(office)['hdrs_hpc_heartbeat_age_seconds{loop="controller"}'] < 60

    (office.home.heartbeats_dir / "controller.json").unlink()
    never = office.get("/healthz")
    assert (never.status_code, never.text) == (503, "the controller was never heard of\n")
    assert values(office)['hdrs_hpc_heartbeat_stale{loop="controller"}'] == 1
    Pulse.of_controller(office.home, stale_after_s=3600).beat()


def test_a_keyd_that_hangs_or_was_never_there_is_told_by_health_and_metrics(office: Office) -> None:
    assert values(office)['hdrs_hpc_heartbeat_stale{loop="keyd"}'] == 0
    Pulse.of_keyd(office.home, stale_after_s=-1).beat()
    told = office.get("/healthz")
    assert (told.status_code, told.text) == (503, "keyd was last heard of 0 s ago\n")
    assert values(office)['hdrs_hpc_heartbeat_stale{loop="keyd"}'] == 1
    (office.home.heartbeats_dir / "keyd.json").unlink()
    assert office.get("/healthz").text == "keyd was never heard of\n"
    Pulse.of_keyd(office.home, stale_after_s=3600).beat()
    heartbeats.begin(office.home)  # by a controller that starts anew: keyd goes on meanwhile
    assert heartbeats.keyd(office.home) is not None
    Pulse.of_controller(office.home, stale_after_s=3600).beat()


def test_loops_that_fail_are_told_by_health_and_metrics_until_a_tick_went_well(office: Office) -> None:
    site = Pulse.of_cluster(office.home, "dawn", stale_after_s=3600)
    site.failed("ValueError at run.py:12")
    site.failed("ValueError at run.py:12")
    assert office.get("/healthz").text == "degraded: the loops of 1 clusters are stuck or fail\n"
    assert values(office)['hdrs_hpc_loop_failures{loop="cluster dawn"}'] == 2
    site.beat("RunStep", "job/7K3QW2")
    assert values(office)['hdrs_hpc_loop_failures{loop="cluster dawn"}'] == 2, (
        "a tick that begins is not over"
    )
    site.went_well()
    assert values(office)['hdrs_hpc_loop_failures{loop="cluster dawn"}'] == 0
    assert office.get("/healthz").text == "ok\n"

    own = Pulse.of_controller(office.home, stale_after_s=3600)
    own.failed("ValueError at loop.py:99")
    told = office.get("/healthz")
    assert (told.status_code, told.text) == (503, "the controller failed 1 times and tries again\n")
    own.went_well()
    assert office.get("/healthz").text == "ok\n"


def test_health_tells_the_step_in_which_the_controller_is_stuck_and_no_name(office: Office) -> None:
    Pulse.of_controller(office.home, stale_after_s=-1).beat("ClosingStep", "project/lung-fm")
    assert office.get("/healthz").text == "the controller was last heard of 0 s ago, in ClosingStep\n"
    Pulse.of_controller(office.home, stale_after_s=3600).beat()


@pytest.mark.parametrize("address", ["10.1.2.3", "fe80::1", "unknown"])
def test_metrics_are_for_the_monitoring_alone(office: Office, address: str) -> None:
    stranger = office.http_from(address)
    assert stranger.get("/metrics").status_code == 404
    assert stranger.get("/healthz").status_code == 200, "which names nothing"
    # A proxy on the broker's machine that its operator did not name: everybody would seem to be here.
    behind = office.http.get("/metrics", headers={"X-Forwarded-For": address})
    assert behind.status_code == 404
    assert "hdrs_hpc" not in behind.text
    assert office.http.get("/metrics").status_code == 200


def test_who_monitors_is_said_in_the_settings(office: Office) -> None:
    text = office.home.settings_file.read_text()
    assert office.home.settings().monitoring == ("127.0.0.1", "::1")
    office.home.settings_file.write_text(f'monitoring = ["10.1.2.3"]\n{text}')
    try:
        assert office.home.settings().monitoring == ("10.1.2.3",)
    finally:
        office.home.settings_file.write_text(text)


def test_metrics_name_clusters_and_nothing_else_that_people_named(office: Office) -> None:
    job = office.job()
    Pulse.of_cluster(office.home, "dawn", stale_after_s=3600).beat("RunStep", f"job/{job}")
    told = office.get("/metrics").text
    assert "cluster dawn" in told
    for name in (job, "lung-fm", "skin-fm", "rae", "sam", REGISTRATION["name"]):
        assert f'"{name}"' not in told
        assert f"/{name}" not in told
