"""``broker serve`` as processes: they come back, they end together, and they do not listen where they must not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from hdrs_hpc.broker import setup
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.reading import status
from hdrs_hpc.broker.store import jobs
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.web.server import is_loopback
from hdrs_hpc.client.http import Api, BrokerUnreachableError
from hdrs_hpc.core import clock
from tests.support.office import Office


@pytest.fixture
def office() -> Iterator[Office]:
    """A short path: the socket of keyd has one, too."""
    folder = Path(tempfile.mkdtemp(prefix="hdrs-serve-"))
    office = Office(folder)
    office.db.close()
    change(office.home, "port = 1", f"port = {setup.free_port()}")
    yield office
    for pid in pids(office.home).values():
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(office: Office) -> BrokerHome:
    return office.home


def change(home: BrokerHome, old: str, new: str) -> None:
    text = home.settings_file.read_text()
    assert old in text
    home.settings_file.write_text(text.replace(old, new))


def start(home: BrokerHome) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hdrs_hpc.cli.main", "broker", "serve", "--home", str(home.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pids(home: BrokerHome) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads((home.root / "serve.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def eventually(holds: Callable[[], bool], within_s: float = 40.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["web", "keyd", "controller"])
def test_a_process_that_is_killed_comes_back(home: BrokerHome, name: str) -> None:
    serving = start(home)
    assert status.wait(home, 40).up
    old = pids(home)[name]
    os.kill(old, signal.SIGKILL)
    eventually(lambda: pids(home).get(name, old) != old)
    assert status.wait(home, 40).up
    assert f"{name} ended with status -9" in (home.logs_dir / "serve.log").read_text()
    serving.terminate()
    assert serving.wait(40) == 0


def test_sigterm_ends_all_three_in_order_and_says_nothing_wrong(home: BrokerHome) -> None:
    serving = start(home)
    assert status.wait(home, 40).up
    running = pids(home)
    assert set(running) == {"supervisor", "keyd", "controller", "web"}
    serving.send_signal(signal.SIGTERM)
    out, _ = serving.communicate(timeout=40)
    assert serving.returncode == 0
    assert re.search(r"north-sde answers on http://127\.0\.0\.1:\d+", out)
    assert not any(alive(pid) for pid in running.values())
    assert not (home.root / "serve.json").exists()
    assert not status.look(home).up


def test_children_of_a_killed_supervisor_die_with_it(home: BrokerHome) -> None:
    """Otherwise a second `serve` would meet a controller and a keyd of the first."""
    serving = start(home)
    assert status.wait(home, 40).up
    running = pids(home)
    serving.kill()
    serving.wait(10)
    eventually(lambda: not any(alive(pid) for pid in running.values()), 10)
    again = start(home)
    assert status.wait(home, 40).up
    again.terminate()
    assert again.wait(40) == 0


def test_a_second_serve_on_the_same_home_is_refused(home: BrokerHome) -> None:
    serving = start(home)
    assert status.wait(home, 40).up
    second = start(home)
    out, _ = second.communicate(timeout=40)
    assert second.returncode == 6
    assert "broker-already-serving" in out
    assert status.look(home).up, "the first one is not disturbed"
    serving.terminate()
    serving.wait(40)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "broker.example.org"])
def test_without_tls_no_other_machine_can_reach_it(home: BrokerHome, host: str) -> None:
    change(home, 'host = "127.0.0.1"', f'host = "{host}"')
    serving = start(home)
    out, _ = serving.communicate(timeout=40)
    assert serving.returncode == 4
    assert "plain-http-refused" in out
    assert not (home.root / "serve.json").exists()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.evil.org", False),
        ("127.0.0.1.nip.io", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, as an operator without an authority makes one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north-sde")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(hours=1))
        .not_valid_after(clock.now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, SHA256())
    )
    folder.mkdir()
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return folder / "cert.pem"


def test_with_tls_a_client_trusts_the_certificate_it_was_given_and_no_other(home: BrokerHome) -> None:
    pinned = certificate(home.root / "tls")
    with home.settings_file.open("a") as settings:
        settings.write('\n[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n')
    serving = start(home)
    assert status.wait(home, 40).up
    url = home.settings().url
    assert url.startswith("https://")
    assert Api(url, ca_file=pinned).get("/v1/broker")["audience"] == "north-sde"
    with pytest.raises(BrokerUnreachableError):
        Api(url).get("/v1/broker")
    with pytest.raises(BrokerUnreachableError):
        Api(url, ca_file=certificate(home.root / "other")).get("/v1/broker")
    with pytest.raises(httpx.TransportError):
        httpx.get(url.replace("https", "http") + "/healthz")
    serving.terminate()
    assert serving.wait(40) == 0


def test_status_of_a_broker_that_is_down_says_so(home: BrokerHome) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hdrs_hpc.cli.main", "broker", "status", "--home", str(home.root), "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 7
    told = json.loads(done.stdout)
    assert (told["up"], {item["name"]: item["answers"] for item in told["processes"]}) == (
        False,
        {"keyd": False, "controller": False, "web": False},
    )


def test_a_home_is_not_made_twice(home: BrokerHome) -> None:
    before = home.settings_file.read_bytes()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hdrs_hpc.cli.main",
            "broker",
            "init",
            "--audience",
            "x",
            "--home",
            str(home.root),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 6
    assert "broker-exists" in done.stderr
    assert home.settings_file.read_bytes() == before


def refusals(home: BrokerHome, forwarded_for: Callable[[int], str]) -> list[int]:
    """Status of each of 130 documents that are none, from this machine, with these ``X-Forwarded-For``."""
    with httpx.Client(base_url=home.settings().url) as client:
        return [
            client.post(
                "/v1/documents", content=b"{}", headers={"X-Forwarded-For": forwarded_for(number)}
            ).status_code
            for number in range(130)
        ]


def test_nobody_escapes_the_count_of_refusals_by_naming_other_addresses(home: BrokerHome) -> None:
    serving = start(home)
    assert status.wait(home, 40).up
    told = refusals(home, lambda number: f"192.0.2.{number}")
    assert (told[0], told[-1]) == (422, 429)
    serving.terminate()
    serving.wait(40)


def test_only_what_a_listed_proxy_adds_is_believed(home: BrokerHome) -> None:
    """A proxy appends the address it saw: what the sender wrote before it does not count."""
    with home.settings_file.open("a") as settings:
        settings.write('\ntrusted-proxies = ["127.0.0.1"]\n')
    serving = start(home)
    assert status.wait(home, 40).up
    assert 429 not in refusals(home, lambda number: f"198.51.100.7, 192.0.2.{number}")
    assert refusals(home, lambda number: f"192.0.2.{number}, 198.51.100.7")[-1] == 429
    serving.terminate()
    serving.wait(40)


def test_a_request_under_another_name_is_refused(home: BrokerHome) -> None:
    serving = start(home)
    assert status.wait(home, 40).up
    url = home.settings().url
    assert httpx.get(f"{url}/healthz").status_code == 200
    answer = httpx.get(f"{url}/v1/broker", headers={"Host": "attacker.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host-unknown")
    serving.terminate()
    serving.wait(40)


def test_a_controller_that_is_stopped_is_seen_by_health_status_and_metrics(home: BrokerHome) -> None:
    """It is there as a process, and does nothing."""
    with home.settings_file.open("a") as settings:
        settings.write("\nheartbeat-grace-s = 1.5\n")
    serving = start(home)
    assert status.wait(home, 40).up
    url, controller = home.settings().url, pids(home)["controller"]
    eventually(lambda: httpx.get(f"{url}/healthz").text == "ok\n")
    assert 'hdrs_hpc_heartbeat_stale{loop="controller"} 0.0' in httpx.get(f"{url}/metrics").text
    os.kill(controller, signal.SIGSTOP)
    try:
        eventually(lambda: httpx.get(f"{url}/healthz").status_code == 503)
        assert "the controller was last heard of" in httpx.get(f"{url}/healthz").text
        assert 'hdrs_hpc_heartbeat_stale{loop="controller"} 1.0' in httpx.get(f"{url}/metrics").text
        seen = status.look(home)
        assert {item.name: item.answers for item in seen.processes} == {
            "keyd": True,
            "controller": False,
            "web": True,
        }
        assert not seen.up
        assert pids(home)["controller"] == controller
    finally:
        os.kill(controller, signal.SIGCONT)
    eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)
    assert status.look(home).up
    serving.terminate()
    assert serving.wait(40) == 0


def test_a_job_that_is_filed_is_decided_at_once_and_not_at_the_next_tick(office: Office) -> None:
    home = office.home
    change(home, "tick-s = 1.0", "tick-s = 300.0")
    serving = start(home)
    assert status.wait(home, 40).up
    with httpx.Client(base_url=home.settings().url) as client:
        took = [decided_after_s(office, client) for _ in range(3)]
    assert sorted(took)[1] < 3, took
    serving.terminate()
    assert serving.wait(40) == 0


def decided_after_s(office: Office, client: httpx.Client) -> float:
    """Seconds from the receipt of a spec to the controller's decision on it."""
    raw = office.party.sign("job-spec", office.spec(), "rae").to_bytes()
    receipt = client.post("/v1/documents", content=raw, headers={"Content-Type": "application/vnd.dsse+json"})
    assert receipt.status_code == 200, receipt.text
    began, job = time.monotonic(), receipt.json()["job"]
    db = Database(office.home.database)
    while True:
        with db.read() as tx:
            state = jobs.get(tx, job).state
        took = time.monotonic() - began
        if state != "RECEIVED" or took > 20:
            break
        time.sleep(0.01)
    db.close()
    return took
