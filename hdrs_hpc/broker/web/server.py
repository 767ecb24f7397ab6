"""web's process: ``python -m hdrs_hpc.broker.web.server --home HOME``."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import sys
from pathlib import Path

import uvicorn

from hdrs_hpc.broker.home import BrokerHome, BrokerSettings
from hdrs_hpc.broker.web import hosts
from hdrs_hpc.broker.web.app import create
from hdrs_hpc.broker.web.dependencies import Web
from hdrs_hpc.core.errors import NotAllowedError


class PlainHttpError(NotAllowedError):
    code = "plain-http-refused"
    meaning = "Without TLS the broker listens on loopback only: logins and artefacts would travel in clear."
    remedy = "Give `[tls]` with certificate and key in broker.toml, or set host to 127.0.0.1."


def check_listening(settings: BrokerSettings) -> None:
    """Raises PlainHttpError for an address that others can reach without TLS."""
    if settings.tls_certificate is None and not is_loopback(settings.host):
        raise PlainHttpError(f"host is {settings.host}", where="broker.toml")


def is_loopback(host: str) -> bool:
    """Addresses only, and the one name that always means this machine: other names can change their minds."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def serve(home: BrokerHome) -> None:
    """Run until SIGTERM."""
    settings = home.settings()
    check_listening(settings)
    hosts.answered(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stdout)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    web = Web.open(home)
    config = uvicorn.Config(
        create(web),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        limit_concurrency=256,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=64 << 10,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run()
    web.db.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="hdrs-hpc web")
    parser.add_argument("--home", type=Path, required=True)
    serve(BrokerHome.at(parser.parse_args().home).require())
